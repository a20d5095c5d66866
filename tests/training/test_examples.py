"""What training learns from: verdicts under their questions, few-shot sequences, responses; one verdict token each."""

import pytest

from elicit.errors import DomainError
from elicit.training.examples import Heads, instruction_examples, mixture, prove
from elicit.training.instructions import own_instructions
from tests.training.conftest import domain, examples_of


def test_few_shot_sequences_ask_for_each_label_after_the_texts_before_it_and_hold_no_text_twice(base) -> None:
    source = domain("film", 43)  # 43 = 5 sequences of 8, and one of 3
    examples = examples_of(base.model, source, 43, shots=1.0, weights={"7": 0.25})
    alone, together = examples[:43], examples[43:]
    assert sorted(len(example["reads"]) for example in together) == [3, 8, 8, 8, 8, 8]
    prompt = base.model.prompt(source.question)
    for example in together:
        ids = [*example["suffix"], 0]
        for read, verdict in zip(example["reads"], example["targets"], strict=True):
            assert ids[read - len(prompt.tail) + 1 : read + 1] == prompt.tail
            if read + 1 < len(example["suffix"]):
                assert ids[read + 1] == verdict
    # Every text with its own verdict, once: what stands in front of a verdict is the suffix of that text alone.
    by_suffix = {tuple(example["suffix"]): example["targets"][0] for example in alone}
    found = []
    for example in together:
        start = 0
        for read, verdict in zip(example["reads"], example["targets"], strict=True):
            own = tuple(example["suffix"][start : read + 1])
            assert by_suffix[own] == verdict
            found.append(own)
            start = read + 2 + len(prompt.between)
    assert sorted(found) == sorted(by_suffix)
    # Both classes count equally: 22 flagged texts and 21 cleared ones; text 7 is a cleared one.
    flagged, cleared = 43 / 44, 43 / 42
    for part in (alone, together):
        weights = sorted(weight for example in part for weight in example["weights"])
        assert weights == pytest.approx([cleared / 4] + [flagged] * 22 + [cleared] * 20)
    half = examples_of(base.model, source, 43, shots=0.5)
    assert sum(len(example["reads"]) for example in half[43:]) in (21, 22)
    assert examples_of(base.model, source, 43) == examples_of(base.model, source, 43, shots=0.0) != half


def test_instructions_count_as_one_verdict_or_as_many_as_their_tokens(base) -> None:
    pairs = own_instructions(5)
    by_example, by_token = (instruction_examples(base.model, pairs, Heads(), loss) for loss in ("example", "token"))
    assert [sum(example["weights"]) for example in by_example] == pytest.approx([1.0] * 5)
    assert [sum(example["weights"]) for example in by_token] == [len(example["reads"]) for example in by_token]
    for pair, example in zip(pairs, by_example, strict=True):
        ids = [*example["suffix"], example["targets"][-1]]
        assert [ids[read + 1] for read in example["reads"]] == example["targets"]
        assert base.model.tokenizer.decode(example["targets"]) == pair.response + "<|im_end|>"


def test_a_row_whose_verdict_is_not_one_token_at_its_end_is_named(base) -> None:
    source, heads = domain("film"), Heads()
    good = examples_of(base.model, source, 8, heads)[0]
    prompt = base.model.prompt(source.question)
    prove(good, 1, prompt)
    for change in (
        {"suffix": good["suffix"][:-1]},  # cut off in front of the verdict
        {"targets": [0]},  # no verdict word
        {"targets": [], "reads": [], "weights": []},  # nothing is learnt
        {"reads": [good["reads"][0] - 1]},  # read too early
        {"targets": good["targets"] * 2, "reads": good["reads"] * 2, "weights": [1.0, 1.0]},  # learnt twice
    ):
        with pytest.raises(DomainError, match="film, row '"):
            prove({**good, **change}, 1, prompt)


def test_other_wordings_are_asked_with_their_own_verdicts(base) -> None:
    source, heads = domain("film"), Heads()
    prompt = base.model.prompt(source.question)
    plain = examples_of(base.model, source, 64)
    asked = examples_of(base.model, source, 64, heads, wordings=1.0)
    assert [example["targets"] for example in asked[:64]] == [example["targets"] for example in plain]
    turned = [
        "Would it be wrong" in text or 'Is "No"' in text
        for text in (base.model.tokenizer.decode(heads[example["head"]]) for example in asked[64:])
    ]
    assert sum(turned) == 32
    words = {prompt.verdict.flagged, prompt.verdict.cleared}
    of_row = {example["where"]: example for example in plain}
    assert {example["where"] for example in asked[64:]} == set(of_row)
    for other, is_turned in zip(asked[64:], turned, strict=True):
        one = of_row[other["where"]]
        assert one["weights"] == other["weights"]
        assert words.issuperset(other["targets"])
        if is_turned:
            assert one["targets"] != other["targets"]
    assert len(examples_of(base.model, source, 64, heads, wordings=0.25)) == 64 + 16


def test_an_inverted_question_stands_in_the_place_of_the_domain_s_own_and_its_verdict_is_turned(base) -> None:
    source, heads = domain("film"), Heads()
    plain = examples_of(base.model, source, 64)
    half = examples_of(base.model, source, 64, heads, inverted=0.5)
    assert [example["where"] for example in half] == [example["where"] for example in plain]
    turned = 0
    for before, after in zip(plain, half, strict=True):
        if "Would it be wrong" in base.model.tokenizer.decode(heads[after["head"]]):
            turned += 1
            assert after["targets"] != before["targets"]
            assert after["weights"] == before["weights"]
        else:
            assert (after["targets"], after["suffix"]) == (before["targets"], before["suffix"])
    assert turned == 32


def test_a_high_temperature_makes_the_shares_of_the_sources_alike() -> None:
    large, small = domain("film", 60), domain("book", 20)
    assert [len(part) for part in mixture([large, small], 100, 1.0)] == [60, 20]
    assert [len(part) for part in mixture([large, small], 100, 1e6)] == [40, 40]
    repeated = mixture([large, small], 100, 1e6)[1]
    assert sorted(repeated.ids) == sorted([*small.ids, *small.ids])
    assert [len(part) for part in mixture([large, small], 30, 1.0)] == [30, 20]
