"""Retention on a tiny model: the loss is the plain one, and comparisons are paired."""

import json

import numpy as np
import pytest
import torch

from elicit.evaluation import difference
from elicit.evaluation.retention import Retention, retention
from elicit.language_models.local import LocalModel
from elicit.language_models.prompts import ConversationPrompt
from elicit.training.instructions import own_instructions


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mamba"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_loss_is_that_of_the_plain_forward_pass(architecture, make_model, make_tokenizer) -> None:
    model = LocalModel.from_transformers(make_model(architecture), make_tokenizer())
    pairs = own_instructions(13, held_out=True)
    found = retention(model, pairs)
    prompt = ConversationPrompt(model.tokenizer, model.context_length, 256)
    for row, pair in enumerate(pairs):
        ids = [*prompt.head, *prompt.suffix(prompt.encode([pair.prompt])[0])]
        answer = prompt.responses([pair.response])[0]
        assert model.tokenizer.decode(answer) == pair.response + "<|im_end|>"
        with torch.no_grad():
            logits = model.transformers_model(torch.tensor([[*ids, *answer]])).logits[0, len(ids) - 1 : -1]
        plain = -torch.log_softmax(logits.float(), -1)[torch.arange(len(answer)), torch.tensor(answer)].mean()
        assert found.loss[row] == pytest.approx(float(plain), abs=2e-4)


def test_without_a_chat_template_the_answer_follows_a_colon_and_ends_with_the_tokenizer_s_own_end(
    make_tokenizer,
) -> None:
    tokenizer = make_tokenizer(template=None)
    prompt = ConversationPrompt(tokenizer, 1024, 8)
    ids = [*prompt.head, *prompt.suffix(prompt.encode(["Say it."])[0]), *prompt.responses(["It"])[0]]
    assert tokenizer.decode(ids) == "Say it.\n\nAnswer: It<|endoftext|>"
    assert len(prompt.responses(["a long answer that is cut"])[0]) == 8


def test_a_comparison_is_paired() -> None:
    before = Retention(np.array([1.0, 2.0, 3.0, 2.0]), np.array([1.0, 0.0, 1.0, np.nan]), ("", "", "", ""))
    worse = Retention(before.loss * 1.1, np.array([0.0, 0.0, 1.0, np.nan]), before.templates)
    growth = worse.loss_growth(before)
    assert growth.value == pytest.approx(0.1)
    assert growth.interval() == pytest.approx((0.1, 0.1))
    gain = difference(worse.pass_rate(), before.pass_rate())
    assert gain["value"] == pytest.approx(-1 / 3, abs=1e-6)
    assert (gain["low"], gain["high"]) == (-1.0, 0.0)  # 1 of 3 pairs changed: a draw of it alone, and one without it
    assert before.to_json()["pass_rate"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert before.to_json()["loss"]["value"] == 2.0


def test_what_is_kept_as_json_is_what_was_measured() -> None:
    found = Retention(np.array([1.0, 2.5]), np.array([1.0, np.nan]), ("sum", ""))
    again = Retention.from_held(json.loads(json.dumps(found.held())))
    np.testing.assert_array_equal(again.loss, found.loss)
    np.testing.assert_array_equal(again.passes, found.passes)
    assert again.templates == found.templates


def test_pairs_of_a_template_are_drawn_together() -> None:
    # Two templates, one of which a model knows: a draw has both, or one of them twice.
    found = Retention(np.ones(8), np.repeat([1.0, 0.0], 4), ("a",) * 4 + ("b",) * 4)
    assert set(found.pass_rate().replicates) == {0.0, 0.5, 1.0}
    apart = Retention(found.loss, found.passes, ("",) * 8)
    assert apart.pass_rate().interval()[0] > 0
