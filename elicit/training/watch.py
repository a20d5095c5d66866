"""What is seen of a training while it runs: figures, and the signs that it diverges or learnt nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback

from elicit.training.validation import ENOUGH

GOOD, FALLEN = 0.75, 0.25  # an AUROC this high that keeps less than this part of what it was above chance has collapsed
CHANCE = 0.65
AUROC = "eval_auroc"  # followed by ": NAME" for each of several sources
SATURATED = 0.1  # a loss above this has a gradient in a model that can still learn


class Watch(TrainerCallback):  # type: ignore[misc]
    """Moves a progress bar, keeps the figures, and stops a training that diverges.

    It diverges where the loss or gradient is not finite, where the loss, of training or of validation, goes above twice the first
    one (or that of guessing) plus 1, where the gradient vanishes though there is a loss, and where the AUROC on enough validation
    texts of a source falls to chance.

    Args:
        step: called with the number of optimiser steps done.
        say: called with the latest figures.
        judges: by source, how many validation examples of the rarer class judge its verdicts, if any were learnt here or before.
        learns: whether verdicts are learnt here. What other examples undo is to be noted, and no reason to stop.

    Attributes:
        history: loss and validation figures by step.
        diverged: why training was stopped, or None.
    """

    def __init__(
        self, step: Callable[[int], None], say: Callable[[str], None], judges: Mapping[str, int], learns: bool
    ) -> None:
        self._step, self._say, self._done, self._judges, self._learns = step, say, 0, judges, learns
        self._shown: dict[str, str] = {}
        self.history: list[dict[str, float]] = []
        self.diverged: str | None = None

    def on_train_begin(self, _arguments: Any, state: Any, _control: Any, **_: Any) -> None:
        """Take up the figures of a training that goes on."""
        self.history = [entry for held in state.log_history if (entry := _figures(held))]

    def on_step_end(self, _arguments: Any, state: Any, control: Any, **_: Any) -> Any:
        self._step(state.global_step - self._done)
        self._done = state.global_step
        # What is about to be kept is looked at first.
        control.should_log = control.should_log or control.should_save or control.should_training_stop
        return control

    def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> Any:
        figures = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if not (kept := _figures({"step": state.global_step} | figures)):
            return control
        self.history.append(kept)
        for name, words in (("loss", "loss"), ("eval_loss", "validation loss"), (AUROC, "AUROC")):
            if name in figures:
                self._shown[words] = f"{figures[name]:.3f}"
        self._say(", ".join(f"{words} {value}" for words, value in self._shown.items()))
        loss = figures.get("loss")
        first = max(math.log(2), next((entry["loss"] for entry in self.history if "loss" in entry), math.nan))
        # In float16 a step whose gradient overflows is left out, and the next one scales it down.
        looked_at = ("eval_loss",) if getattr(arguments, "fp16", False) else ("grad_norm", "eval_loss")
        broken = [name for name in looked_at if not math.isfinite(figures.get(name, 0.0))]
        if broken and (loss is None or math.isfinite(loss)):
            what = "gradient" if "grad_norm" in broken else "validation loss"
            self.diverged = f"the {what} is not finite at step {state.global_step}"
        elif loss is not None and not loss <= 2 * first + 1:
            self.diverged = f"the loss went from {first:.3g} to {loss:.3g} at step {state.global_step}"
        elif figures.get("grad_norm") == 0 and loss is not None and loss > SATURATED:
            self.diverged = f"the gradient vanished at a loss of {loss:.3g}, step {state.global_step}"
        elif not figures.get("eval_loss", 0.0) <= 2 * first + 1:
            # That of training is from before this step, and this one of what the step left.
            self.diverged = f"the validation loss is {figures['eval_loss']:.3g} at step {state.global_step}"
        elif self._learns:
            self.diverged = self.diverged or self._collapse(state.global_step)
        if self.diverged:
            control.should_training_stop, control.should_save = True, False
        return control

    def _collapse(self, step: int) -> str | None:
        """The source whose validation AUROC, just measured, was good and fell to chance; or None."""
        for source, judges in self._judges.items():
            seen = [auroc for entry in self.history if (auroc := self._auroc(entry, source)) is not None]
            if judges < ENOUGH or not seen or self._auroc(self.history[-1], source) is None:
                continue
            if max(seen) >= GOOD and seen[-1] - 0.5 < FALLEN * (max(seen) - 0.5):
                fall = f"from {max(seen):.2f} to {seen[-1]:.2f} at step {step}"
                return f"the AUROC on validation texts of {source} fell {fall}"
        return None

    @staticmethod
    def _auroc(entry: Mapping[str, float], source: str) -> float | None:
        """Of one source; that of the only one is the mean."""
        return entry.get(f"{AUROC}: {source}", entry.get(AUROC))

    def weakness(self, step: int) -> str | None:
        """What is to be said of a training after which verdicts are at chance on enough validation texts of some source."""
        judged = [entry for entry in self.history if AUROC in entry and entry["step"] <= step]
        if not judged:
            return None
        last = judged[-1]
        weak = [
            f"{auroc:.2f} on {source}"
            for source, judges in self._judges.items()
            if judges >= ENOUGH and (auroc := self._auroc(last, source)) is not None and auroc < CHANCE
        ]
        if not weak:
            return None
        why = "labels may be wrong, the learning rate too high, or the training too short"
        if not self._learns:
            why = "instructions, learnt last, may have undone what verdicts had taught"
        return (
            f"AUROC on the sources' own validation texts is little better than chance: {', '.join(weak)} (mean loss "
            f"{last['eval_loss']:.2f}; guessing costs {math.log(2):.2f}); {why}"
        )


def _figures(logs: Mapping[str, Any]) -> dict[str, float]:
    """The finite figures of a log entry about loss or validation, by name; empty for another one."""
    if "loss" not in logs and "eval_loss" not in logs:
        return {}
    return {
        name: float(value)
        for name, value in sorted(logs.items())
        if isinstance(value, int | float) and math.isfinite(value)
    }
