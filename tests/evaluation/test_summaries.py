"""Summaries: ROUGE worked out by hand, losses from the model's own logits, and verdicts that survive or do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from elicit.domains.reference_summaries import load_reference_summaries
from elicit.evaluation.summaries import INSTRUCTION, Survival, copied, reference_losses, rouge, survival_figures
from elicit.language_models.generation import Generation
from elicit.language_models.local import LocalModel
from elicit.monitors.scores import scores_from


def test_rouge_by_hand() -> None:
    found = rouge([Generation("the cat sat"), Generation("", reason="the text is empty")], ["the cat ran home", "x"])
    # 2 of 3 words and 2 of 4: F = 2 · ⅔ · ½ / (⅔ + ½) = 4/7; of the pairs 1 of 2 and 1 of 3: F = .4
    assert found["rouge1"][0] == pytest.approx(4 / 7)
    assert found["rouge2"][0] == pytest.approx(0.4)
    assert found["rougeL"][0] == pytest.approx(4 / 7)
    assert all(np.isnan(values[1]) for values in found.values())


def test_words_that_are_taken_over() -> None:
    found = copied(
        [Generation("the cat sat down"), Generation("a dog"), Generation("", reason="r")], ["see the cat sat"] * 3
    )
    assert found[0] == pytest.approx(2 / 3)
    assert found[1] == 0
    assert np.isnan(found[2])


def test_losses_are_those_of_the_models_own_logits(make_model, make_tokenizer) -> None:
    model = LocalModel.from_transformers(make_model("llama"), make_tokenizer())
    texts, references = ["a film about a dog", "two films"], ["A dog.", "Films, and more"]
    found = reference_losses(model, texts, references)
    for row, (text, reference) in enumerate(zip(texts, references, strict=True)):
        user = {"role": "user", "content": f"{INSTRUCTION}\n\nText:\n{text}"}
        asked = model.tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        whole = model.tokenizer(f"{asked}{reference}<|im_end|>", add_special_tokens=False)["input_ids"]
        start = len(model.tokenizer(asked, add_special_tokens=False)["input_ids"])
        with torch.inference_mode():
            logits = model.transformers_model(torch.tensor([whole])).logits[0].log_softmax(-1)
        expected = -np.mean([float(logits[at - 1, whole[at]]) for at in range(start, len(whole))])
        assert found[row] == pytest.approx(expected, abs=1e-3)


LABELS = [1] * 20 + [0] * 20
TEXTS = scores_from([str(i) for i in range(40)], np.where(np.arange(40) < 20, 5.0, -5.0) + 0.1 * (np.arange(40) % 7))


def test_a_faithful_summary_keeps_the_verdict() -> None:
    same = scores_from(TEXTS.ids, TEXTS.values * 0.5 + 9)
    found = survival_figures([Survival(TEXTS, same, LABELS)])
    assert (found["n"], found["coverage"]) == (40, 1.0)
    assert found["auroc_difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "reading": "no clear difference"}
    assert found["same_verdict"]["value"] == 1


def test_a_summary_that_turns_a_quarter_of_the_verdicts_round_shows() -> None:
    turned = np.where(np.arange(40) % 4 == 0, -TEXTS.values, TEXTS.values)
    found = survival_figures([Survival(TEXTS, scores_from(TEXTS.ids, turned), LABELS)])
    assert found["same_verdict"]["value"] == 0.75
    assert found["auroc_summary"]["value"] == pytest.approx(0.5625, abs=0.2)
    assert found["auroc_difference"]["reading"] == "worse"


def test_missing_summaries_are_left_out_of_both_and_counted() -> None:
    missing = ["the tokens ran out" if i < 10 else None for i in range(40)]
    found = survival_figures([Survival(TEXTS, scores_from(TEXTS.ids, TEXTS.values, missing), LABELS)])
    assert (found["n"], found["coverage"], found["unscored"]) == (30, 0.75, {"the tokens ran out": 10})
    none = survival_figures([Survival(TEXTS, scores_from(TEXTS.ids, TEXTS.values, ["no"] * 20 + [None] * 20), LABELS)])
    assert none["auroc_difference"]["value"] is None
    assert "one class" in none["auroc_difference"]["undefined"]


def test_reference_summaries_are_shorter_than_their_texts() -> None:
    pairs = load_reference_summaries(30)
    assert len(pairs) == len({pair.id for pair in pairs}) == 30
    assert pairs == load_reference_summaries(250)[:30]
    assert sum(len(pair.summary) < len(pair.text) for pair in pairs) >= 25


def test_verdicts_of_one_group_are_drawn_together_and_all_seeds_meet_the_same_draws() -> None:
    turned = np.where(np.arange(40) % 20 < 5, -TEXTS.values, TEXTS.values)  # one group in four of each class
    summaries, groups = scores_from(TEXTS.ids, turned), [str(i // 5) for i in range(40)]
    alone, grouped = (Survival(TEXTS, summaries, LABELS, held).same_verdict() for held in (None, groups))
    assert alone.value == grouped.value == 0.75
    assert grouped.replicates.std() > 1.5 * alone.replicates.std()
    # With four groups in a class, a draw has between none and all of them turned: eighths of all texts.
    assert np.allclose(grouped.replicates * 8 % 1, 0)
    # What has no summary is left out of the same draws, and does not shift them.
    some = scores_from(TEXTS.ids, turned, ["it wrote nothing" if i in (7, 8) else None for i in range(40)])
    fewer = Survival(TEXTS, some, LABELS, groups).same_verdict()
    assert np.corrcoef(fewer.replicates, grouped.replicates)[0, 1] > 0.9
