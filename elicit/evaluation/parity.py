"""Is a served model the one that is here? The same texts both ways: log-odds, their ranks, tokens and chat template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from elicit.domains import Domain, load_domain
from elicit.errors import ModelError
from elicit.language_models.address import is_endpoint
from elicit.language_models.endpoint import EndpointModel
from elicit.language_models.language_model import LanguageModel
from elicit.monitors import VerdictMonitor, load_monitor

TEXTS = 64
CLOSE = 0.1  # log-odds by which bfloat16 may move a text when its batch changes
ALIKE = 0.995  # rank correlation
MESSAGE = "A short text."


@dataclass(frozen=True)
class Parity:
    """Two readings of n texts, and what the server does with text that is not tokens yet.

    Attributes:
        domain: whose texts they are.
        served: (n,) log-odds from the server, NaN where unscored.
        local: (n,) log-odds from the model here, likewise.
        reasons: why texts are unscored, on either side.
        tokens: (n,) whether the server makes the same token ids of a text; None where it does not say.
        beginning: token ids that the server puts before a text of its own accord; None where it does not say.
        template: whether the server's chat template gives the same conversation; None where it does not say.
    """

    domain: str
    served: NDArray[np.float64]
    local: NDArray[np.float64]
    reasons: tuple[str, ...]
    tokens: tuple[bool, ...] | None
    beginning: tuple[int, ...] | None
    template: bool | None

    @property
    def difference(self) -> NDArray[np.float64]:
        """(m,) served − local log-odds of the texts that both scored."""
        difference = self.served - self.local
        return difference[np.isfinite(difference)]

    @property
    def rank_correlation(self) -> float:
        """Spearman's, over the texts that both scored; NaN for fewer than three."""
        known = np.isfinite(self.served) & np.isfinite(self.local)
        return float(spearmanr(self.served[known], self.local[known]).statistic) if known.sum() > 2 else float("nan")

    @property
    def alike(self) -> bool:
        """Whether scores of the one may stand for scores of the other."""
        return bool(
            len(self.difference) >= len(self.served) / 2
            and self.rank_correlation >= ALIKE
            and np.abs(self.difference).max() <= CLOSE
        )

    def plain_words(self) -> list[str]:
        """What was found, one line each."""
        both, of = len(self.difference), len(self.served)
        lines = [f"{both} of {of} texts of {self.domain} were scored both ways"]
        lines += [f"unscored: {reason}" for reason in dict.fromkeys(self.reasons)]
        if both:
            largest, mean = np.abs(self.difference).max(), self.difference.mean()
            lines += [
                f"largest difference of log-odds: {largest:.2g} (served − local: {mean:+.2g} on average)",
                f"rank correlation (Spearman): {self.rank_correlation:.4f}",
            ]
        if self.tokens is None:
            lines.append("tokens: the server does not tell how it tokenises")
        else:
            other = len(self.tokens) - sum(self.tokens)
            lines.append(f"tokens: {other or 'none'} of {len(self.tokens)} texts become other tokens at the server")
        if self.beginning is not None:
            what = f"puts the tokens {list(self.beginning)} before" if self.beginning else "puts nothing before"
            lines.append(
                f"beginning: the server {what} a plain text; prompts from here are tokens and stay as they are"
            )
        if self.template is not None:
            same = (
                "the same here and there"
                if self.template
                else "another at the server, which is not used: prompts are made here"
            )
            lines.append(f"chat template: {same}")
        lines.append(self._verdict())
        return lines

    def _verdict(self) -> str:
        if len(self.difference) < max(3, len(self.served) / 2):
            return "too few texts were scored both ways to tell whether it is the same model"
        if self.alike:
            return "the two are the same model, as far as scores go"
        if self.tokens is not None and not all(self.tokens):
            return "the two differ, and so do their tokens: name the served model's own tokenizer, ,tokenizer=…"
        if self.rank_correlation >= ALIKE:
            return "the two rank texts alike, at other values: quantised weights or another dtype do that; fit thresholds there"
        return "the two differ: other weights, an adapter on one side only, or coarser arithmetic"


def compare(model: str, against: str, domain: str, dtype: str = "auto", device: str = "auto") -> Parity:
    """Score 64 texts of a domain with a served model and with the same model here.

    Args:
        model: `endpoint:URL#NAME`.
        against: catalogue name, folder or hub id of the same model, or folder of its verdict monitor.
        domain: whose texts are scored.
        dtype, device: of the model here.

    Raises:
        ModelError: one of them is not what it should be.
    """
    if not is_endpoint(model):
        raise ModelError(f"{model} is no served model; write endpoint:http://HOST:PORT/v1#NAME")
    if is_endpoint(against):
        raise ModelError(f"{against} is served too; name a model that is here: a catalogue name, folder or hub id")
    texts = load_domain(domain).sample(TEXTS)
    served = EndpointModel.load(model)
    monitor = load_monitor(against, dtype=dtype, device=device)
    if not isinstance(monitor, VerdictMonitor):
        raise ModelError(f"{against} is a {monitor.kind} monitor; name a verdict monitor or a language model")
    # What either said when it was asked before says nothing about the weights that it has now.
    return parity(served.uncached(), monitor.model.uncached(), texts)


def parity(served: EndpointModel, local: LanguageModel, texts: Domain) -> Parity:
    """Compare two models on a domain's texts."""
    theirs = served.log_odds(texts.question, texts.texts, description=f"{texts.name}, served")
    ours = local.log_odds(texts.question, texts.texts, description=f"{texts.name}, here")
    reasons = tuple(reason for reason in (*theirs.reasons, *ours.reasons) if reason is not None)
    tokens = _same_tokens(served, texts)
    return Parity(
        texts.name, theirs.values, ours.values, reasons, tokens, _beginning(served), _same_template(served, local)
    )


def _same_tokens(served: EndpointModel, texts: Domain) -> tuple[bool, ...] | None:
    same = []
    for text in texts.texts:
        theirs = served.server.tokenize(text)
        if theirs is None:
            return None
        same.append(theirs == served.tokenizer(text, add_special_tokens=False)["input_ids"])
    return tuple(same)


def _beginning(served: EndpointModel) -> tuple[int, ...] | None:
    with_it, without = served.server.tokenize(MESSAGE, special=True), served.server.tokenize(MESSAGE)
    if with_it is None or without is None:
        return None
    return tuple(with_it[: len(with_it) - len(without)])


def _same_template(served: EndpointModel, local: LanguageModel) -> bool | None:
    theirs = served.server.render(str(served.served["id"]), MESSAGE)
    if theirs is None or not local.tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": MESSAGE}]
    ours = str(local.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    if isinstance(theirs, str):
        return theirs == ours
    return bool(theirs == local.tokenizer(ours, add_special_tokens=False)["input_ids"])
