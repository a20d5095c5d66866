"""Methods on hidden states: what they refuse, and what they say of a model whose verdicts mean nothing."""

from __future__ import annotations

import numpy as np
import pytest

from elicit.domains import Question, UnlabelledDomain
from elicit.errors import DomainError
from elicit.language_models.local import LocalModel
from elicit.methods import elicit_monitor
from elicit.monitors import VerdictMonitor

QUESTION = Question("Is this text unsafe?")


@pytest.fixture
def monitor(make_model, make_tokenizer) -> VerdictMonitor:
    return VerdictMonitor(LocalModel.from_transformers(make_model("llama"), make_tokenizer()))


@pytest.mark.parametrize(
    ("method", "texts", "said"),
    [
        ("ccs", [], "at least 2 texts that can be read are needed, and these 0 hold fewer"),
        ("vinc", ["one text", "  "], "at least 2 texts that can be read are needed, and these 2 hold fewer"),
        # Empty texts and copies are left out before.
        (
            "state-consistency",
            ["a text", *[""] * 9],
            "at least 8 texts that can be read are needed, and these 1 hold fewer",
        ),
        ("state-consistency", ["the same text"] * 20, "at least 8 texts .* and these 1 hold fewer"),
    ],
)
def test_too_few_texts_are_refused_by_the_name_of_their_domain(monitor, method, texts, said) -> None:
    with pytest.raises(DomainError, match=f"requests: {said}"):
        elicit_monitor(monitor, UnlabelledDomain.from_texts(texts, QUESTION, "requests"), method)


@pytest.mark.parametrize("method", ["state-consistency", "consistency"])
def test_verdicts_of_a_model_that_knows_nothing_are_said_to_be_one_group(monitor, method) -> None:
    dice = np.random.default_rng(0)
    texts = ["".join(dice.choice(list("abcdefgh "), size=30)) for _ in range(60)]
    found = elicit_monitor(monitor, UnlabelledDomain.from_texts(texts, QUESTION), method)
    assert any("the verdicts do not fall into two groups" in warning for warning in found.warnings)
