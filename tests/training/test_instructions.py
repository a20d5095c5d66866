"""The project's own instructions: right answers pass, wrong ones do not, and the held-out part shares nothing with training."""

import itertools
import json
import re
from pathlib import Path

import pytest

from elicit.errors import DomainError
from elicit.training.instructions import HELD_OUT, TRAINING, Instruction, load_instructions, own_instructions


def test_every_pair_passes_its_own_check_and_fails_it_with_another_answer() -> None:
    for held_out in (False, True):
        pairs = own_instructions(300, seed=3, held_out=held_out)
        assert all(pair.passes(pair.response) for pair in pairs)
        assert not any(pair.passes("I do not know.") for pair in pairs)
        by_template: dict[str, list[Instruction]] = {}
        for pair in pairs:
            by_template.setdefault(pair.template, []).append(pair)
        for same in by_template.values():
            for one, other in itertools.pairwise(same):
                if one.response != other.response and one.check == "verbatim":
                    assert not one.passes(other.response)


def test_arithmetic_of_the_pairs_is_right() -> None:
    sums = [pair for pair in own_instructions(600) if pair.template == "sum"]
    assert len(sums) > 10
    for pair in sums:
        a, b = map(int, re.findall(r"\d+", pair.prompt))
        assert pair.response == f"{a} + {b} = {a + b}"


def test_several_hundred_different_pairs_from_a_seed_and_no_template_in_both_parts() -> None:
    pairs = own_instructions(600)
    assert len({pair.prompt for pair in pairs}) == len(pairs) == 600
    assert own_instructions(600) == pairs != own_instructions(600, seed=1)
    assert not {make for make, _ in TRAINING} & {make for make, _ in HELD_OUT}
    held_out = own_instructions(130, held_out=True)
    assert not {pair.prompt for pair in pairs} & {pair.prompt for pair in held_out}
    assert len({pair.template for pair in held_out}) == len(HELD_OUT)


@pytest.mark.parametrize(
    ("check", "response", "right", "wrong"),
    [
        ("number", "3 + 4 = 7", "The answer is 7.", "3 + 4 is 8"),
        ("number", "1250", "1,250", "125"),
        ("words", "The cat sleeps.", "the cat sleeps", "the dog sleeps"),
        ("verbatim", "[red] [blue]", " [red] [blue]\n", "red blue"),
        ("verbatim", "RIVER", "RIVER.", "River"),
        ("json", '{"a": 1, "b": "x"}', 'Here: {"b": "x", "a": 1}', '{"a": 1'),
        ("json", '["a"]', '["a"]', "a"),
    ],
)
def test_checks_accept_what_is_right_however_it_is_said(check, response, right, wrong) -> None:
    pair = Instruction("?", response, check=check)
    assert pair.passes(right) is True
    assert pair.passes(wrong) is False
    assert Instruction("?", response).passes(right) is None


def test_pairs_of_a_file_are_read_and_a_bad_row_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": "Say hello.", "response": "Hello."},
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        {"instruction": "Greet.", "input": "", "output": "Hi."},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [(pair.prompt, pair.response) for pair in load_instructions(str(file))] == [
        ("Say hello.", "Hello."),
        ("Add.\n\n1 and 2", "3"),
        ("Greet.", "Hi."),
    ]
    assert len(load_instructions(str(file), size=2)) == 2
    file.write_text(json.dumps(rows[0]) + "\n" + json.dumps({"prompt": "Nothing"}) + "\n")
    with pytest.raises(DomainError, match=r"row 1 \(line 2\) needs a prompt and a response"):
        load_instructions(str(file))
    file.write_text("")
    with pytest.raises(DomainError, match="there is no row"):
        load_instructions(str(file))
