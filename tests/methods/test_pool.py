"""Texts in contexts: packs and examples that fit."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.domains import Question, UnlabelledDomain
from elicit.errors import DomainError
from elicit.language_models.local import LocalModel
from elicit.methods import elicit_monitor
from elicit.methods.pool import Pool, surest_of_each
from elicit.monitors import VerdictMonitor

QUESTION = Question("Is this text unsafe?")


@pytest.fixture
def monitor(make_model, make_tokenizer) -> VerdictMonitor:
    return VerdictMonitor(LocalModel.from_transformers(make_model("llama"), make_tokenizer()))  # context of 1,024


def pool_of(monitor, texts) -> Pool:
    return Pool.of(monitor, UnlabelledDomain.from_texts(texts, QUESTION), 1000)


def test_packs_hold_every_row_once_and_are_of_nearly_equal_size(monitor):
    pool = pool_of(monitor, [f"text {i}" for i in range(25)])
    packs = pool.packs(range(len(pool)), 12)
    assert [row for pack in packs for row in pack] == list(range(25))
    assert [len(pack) for pack in packs] == [9, 9, 7]


def test_tokens_are_those_that_are_sent(monitor):
    pool = pool_of(monitor, ["one text", "another, longer text", "x"])
    before = monitor.model.meter.tokens
    monitor.model.packed_log_odds(QUESTION, [[(pool.encoded[row], True) for row in range(3)]])
    checked = monitor.model.meter.tokens  # the first reading is also compared with the plain way
    monitor.model.packed_log_odds(QUESTION, [[(pool.encoded[row], False) for row in range(3)]])
    assert before < checked
    assert monitor.model.meter.tokens - checked == pool.tokens(range(3))


def test_long_texts_come_in_smaller_packs_and_fewer_examples(monitor):
    pool = pool_of(monitor, [f"{i} " + "word " * 100 for i in range(12)])  # 192 tokens each, of a context of 1,024
    packs = pool.packs(range(12), 12)
    assert max(pool.tokens(pack) for pack in packs) <= 1024 < pool.tokens(range(5))
    assert {len(pack) for pack in packs} == {4}
    assert len(pool.examples(range(12))) == 2


def test_examples_pass_over_what_leaves_no_room_and_a_pool_is_the_largest_pack(make_model, make_tokenizer):
    model = make_model("llama")
    model.config.max_position_embeddings = 500
    small = VerdictMonitor(LocalModel.from_transformers(model, make_tokenizer()))
    # Two long ones, of 192 tokens and more than half of the context each, stand before short ones.
    pool = pool_of(small, ["word " * 100, "other " * 100, *(f"text {i}" for i in range(8))])
    long = [row for row, text in enumerate(pool.texts) if len(text) > 100]
    short = [row for row in range(10) if row not in long]
    assert pool.examples([*long, *short[:3]]) == short[:3]
    ordered = pool.take([*long, *short])
    packs = [len(pack) for pack in ordered.packs(range(10), 10)]
    assert packs[0] < max(packs) == len(ordered.that_fits_one_context())


@pytest.mark.parametrize("method", ["random-shots", "bootstrap", "consistency", "icm"])
def test_a_question_that_takes_half_of_the_context_is_asked_without_examples(method, monitor):
    question = Question("Is this text unsafe? " + "That is meant in a wide sense. " * 26)
    assert 400 < len(monitor.model.prompt(question).head) < 1024
    texts = UnlabelledDomain.from_texts([f"text number {i}" for i in range(12)], question)
    found = elicit_monitor(monitor, texts, method)
    assert found.monitor.score(texts).coverage == 1
    assert any("asked about without any" in warning for warning in found.warnings)


@pytest.mark.parametrize("method", ["random-shots", "bootstrap", "consistency", "icm"])
@pytest.mark.parametrize("words", [80, 130])
def test_long_texts_are_scored_behind_their_examples(method, words, monitor):
    """Examples take up to half of the context; of a text that is longer than what they leave, both ends are read."""
    texts = [f"{i} " + "word " * words for i in range(12)]
    found = elicit_monitor(monitor, UnlabelledDomain.from_texts(texts, QUESTION), method)
    assert found.monitor.score(texts).coverage == 1


@pytest.mark.parametrize("method", ["consistency", "icm", "bootstrap", "random-shots"])
def test_one_text_is_refused_and_two_are_not(method, monitor):
    for one in (["a text", " "], ["a text"] * 20):
        with pytest.raises(DomainError, match="at least two different texts"):
            elicit_monitor(monitor, UnlabelledDomain.from_texts(one, QUESTION), method)
    found = elicit_monitor(monitor, UnlabelledDomain.from_texts(["a text", "another text"], QUESTION), method)
    assert found.monitor.score(["a text"]).coverage == 1


@pytest.mark.parametrize("method", ["consistency", "icm", "state-consistency"])
def test_copies_of_one_text_are_no_evidence_for_its_label(method, monitor):
    texts = [f"text {i}" for i in range(12)]
    once, twice = (
        elicit_monitor(monitor, UnlabelledDomain.from_texts(given, QUESTION), method).labelling
        for given in (texts, [*texts, *texts])
    )
    assert once.ids == twice.ids
    np.testing.assert_array_equal(once.log_odds, twice.log_odds)


def test_two_texts_that_do_not_fit_one_context(make_model, make_tokenizer):
    model = make_model("llama")
    model.config.max_position_embeddings = 400
    small = VerdictMonitor(LocalModel.from_transformers(model, make_tokenizer()))
    pool = pool_of(small, ["word " * 100, "other " * 100])
    with pytest.raises(
        DomainError,
        match=r"^texts: no two texts fit into the model's context of 400 tokens, of which what is asked takes \d+",
    ):
        pool.packs([0, 1], 12)


def test_the_surest_are_those_whose_label_the_evidence_speaks_for():
    labels = np.array([True, True, False, False, False])
    log_odds = np.array([1.0, 3.0, 5.0, -2.0, -0.5])  # a rule cleared the third, against the evidence
    assert surest_of_each(labels, log_odds) == [1, 3, 0, 4, 2]


def test_verdicts_read_more_of_a_long_text_than_examples_show(monitor):
    pool = pool_of(monitor, ["word " * 300, "short"])
    before = monitor.model.meter.tokens
    pool.verdicts("")
    looked = monitor.model.meter.tokens - before
    assert pool.tokens_of_verdicts() > 300 + pool.tokens([0])
    assert looked >= pool.tokens_of_verdicts() - len(monitor.model.prompt(QUESTION).head)
