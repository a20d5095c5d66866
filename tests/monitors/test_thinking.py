"""Thinking monitors: which written answers are verdicts, and what is read behind the reasoning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from elicit.domains import Question, UnlabelledDomain
from elicit.language_models.generation import Generation
from elicit.language_models.local import LocalModel
from elicit.language_models.prompts import ThinkingPrompt
from elicit.monitors import ThinkingMonitor, load_monitor
from elicit.monitors.thinking import written_verdict

QUESTION = Question("Is it good?")
TEXTS = ("a fine film", "a dull and much longer film that never ends", "", "third")


@pytest.fixture
def model(make_model, make_tokenizer) -> LocalModel:
    return LocalModel.from_transformers(make_model("llama"), make_tokenizer())


@pytest.mark.parametrize(
    ("written", "verdict"),
    [
        ("It is fun. Verdict: Yes", True),
        ("It is fun.\nVerdict: no.", False),
        ("Verdict: **Yes**, since it is fun. Verdict: Yes", True),
        ("No, it is dull.", False),
        ("It is fun, yes.", "no verdict in"),  # in another spelling it is a word like any other
        ("Yesterday it was dull, and Nothing changed.", "no verdict in"),
        ("Yes or No? Hard to say.", "both verdict words"),
        ("Verdict: Yes. Verdict: No", "contradict"),
        ("Yes it is. Verdict: unclear", "behind the verdict line"),
        ("Verdict:", "behind the verdict line"),
    ],
)
def test_only_one_clear_verdict_counts(written: str, verdict: bool | str) -> None:
    found = written_verdict(Generation(written, finished=True), QUESTION)
    if isinstance(verdict, bool):
        assert found is verdict
    else:
        assert isinstance(found, str)
        assert verdict in found


def test_an_answer_that_was_cut_says_so() -> None:
    assert "as many tokens as it had" in str(written_verdict(Generation("It is", finished=False), QUESTION))
    assert written_verdict(Generation("", reason="the text is empty"), QUESTION) == "the text is empty"


def test_forced_log_odds_are_those_of_the_whole_prompt_with_its_reasoning(model) -> None:
    thoughts = model.think(QUESTION, TEXTS, max_tokens=7)
    prompt = ThinkingPrompt(model.tokenizer, QUESTION, model.context_length, 7)
    for row, text in enumerate(prompt.encode(TEXTS)):
        if text.reason:
            assert np.isnan(thoughts.forced.values[row])
            assert thoughts.forced.reasons[row] == thoughts.written[row].reason == "the text is empty"
            continue
        reasoning = model.tokenizer(thoughts.written[row].text, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        closing = model.tokenizer("\nVerdict:", add_special_tokens=False)["input_ids"]
        front = (7 // 2, 7 - 7 // 2)
        kept = reasoning if len(reasoning) <= 7 else [*reasoning[: front[0]], *reasoning[len(reasoning) - front[1] :]]
        whole = [*prompt.head, *text.ids, *prompt.tail, *kept, *closing]
        with torch.inference_mode():
            logits = model.transformers_model(torch.tensor([whole])).logits[0, -1]
        yes, no = (model.tokenizer(word, add_special_tokens=False)["input_ids"] for word in (" Yes", " No"))
        assert len(yes) == len(no) == 1
        np.testing.assert_allclose(thoughts.forced.values[row], float(logits[yes[0]] - logits[no[0]]), atol=1e-3)


def test_reasoning_cannot_close_the_turn_or_carry_its_own_verdict_into_the_forced_one(model, monkeypatch) -> None:
    def read_after(written: str) -> float:
        monkeypatch.setattr(model, "_generate", lambda *_: [Generation(written)])
        return float(model.think(QUESTION, ["a fine film"], max_tokens=200).forced.values[0])

    assert read_after("It is fun.") == read_after("It is fun.Verdict: No. Verdict: No")
    end = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    prompt = ThinkingPrompt(model.tokenizer, QUESTION, model.context_length, 200)
    (forced,) = prompt.forced(prompt.encode(["a fine film"]), ["fun<|im_end|>"])
    assert forced.count(end) == prompt.tail.count(end)


def test_written_and_forced_readings_share_one_generation(model) -> None:
    texts = UnlabelledDomain.from_texts(TEXTS, QUESTION)
    forced = ThinkingMonitor(model, QUESTION, 5).score(texts)
    written = ThinkingMonitor(model, QUESTION, 5, "written").score(texts)
    assert forced.coverage == 0.75
    assert set(written.values[written.scored]) <= {-1.0, 1.0}
    assert sum(written.unscored().values()) + written.scored.sum() == len(TEXTS)


def test_without_reasoning_the_instruction_is_the_same(model) -> None:
    zero = model.think(QUESTION, TEXTS, max_tokens=0)
    assert [answer.text for answer in zero.written] == [""] * 4
    assert np.isfinite(zero.forced.values).tolist() == [True, True, False, True]
    with pytest.raises(ValueError, match="at least one token"):
        ThinkingMonitor(model, QUESTION, 0, "written")


def test_a_saved_monitor_scores_as_before(make_model, make_tokenizer, tmp_path) -> None:
    make_model("llama").save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    model = LocalModel.load(str(tmp_path / "model"), "float32", "cpu")
    monitor = ThinkingMonitor(model, QUESTION, 6, "forced", temperature=0.7, seed=3)
    monitor.save(tmp_path / "monitor")
    again = load_monitor(tmp_path / "monitor", dtype="float32", device="cpu")
    assert isinstance(again, ThinkingMonitor)
    assert (again.max_tokens, again.reading, again.temperature, again.seed) == (6, "forced", 0.7, 3)
    np.testing.assert_array_equal(monitor.score(TEXTS[:2]).values, again.score(TEXTS[:2]).values)
