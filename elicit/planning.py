"""`elicit plan`: what a run will take before it is started: tokens by method, time, and room on the disk.

Tokens are counted with the model's own tokenizer on the domains' own texts, in the passes that each method declares. A pass that an
earlier method of the run has made costs nothing. Of a served model it is the tokens that are sent, of which its server may keep
some from one prompt to the next. Speed is measured here with the model, or given for other hardware.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from elicit.domains import Domain, Row, make_domain
from elicit.domains.domain import FEWEST_ROWS
from elicit.language_models.address import is_endpoint
from elicit.language_models.batches import BUDGETS, padded
from elicit.language_models.language_model import LONGEST_SHOT, LanguageModel, local_model
from elicit.language_models.loading import context_length, load_config_and_tokenizer, pick_device, pick_dtype
from elicit.language_models.prompts import VerdictPrompt
from elicit.methods import METHODS
from elicit.methods.cost import START, UNTRAINED, Kind, Pass, SentTexts, Sizes, Texts
from elicit.methods.states import upper_layers
from elicit.monitors import VerdictMonitor
from elicit.monitors.loading import longest_text, model_beneath
from elicit.run_config import Domains, RunConfig, cannot
from elicit.runs import is_done
from elicit.training import TrainingConfig, is_trained, train_monitor

LONG_ENOUGH = 1.5  # seconds of a measurement
PACKED = 12  # texts of a long sequence
STEPS = 5  # of a training that is measured
BACKWARD = 3  # a pass forward and backward, in passes forward, where it is not measured
WRITING = 10  # a token that the model writes, in tokens that it reads, where that is not measured
WRITTEN = 32  # tokens of an answer that is measured
Say = Callable[[str], None]


@dataclass(frozen=True)
class Speed:
    """How fast a model is.

    Attributes:
        rates: tokens per second, by kind of pass.
        training: seconds of a training beside its passes.
        loading: seconds until the model is there.
        looking: seconds for which a token that is read looks at one before it: attention, beside all that does not depend on it.
    """

    rates: dict[Kind, float]
    training: float = 0.0
    loading: float = 0.0
    looking: float = 0.0

    def seconds(self, passes: Sequence[Pass]) -> float:
        """Time of passes, without what methods compute beside the model."""
        steps = sum(self.training for one in passes if one.kind == "training")
        return steps + sum(one.tokens * (1 / self.rates[one.kind] + self.looking * one.seen) for one in passes)


@dataclass(frozen=True)
class Line:
    """What one method takes on one target, beyond what those before it have done."""

    target: str
    method: str
    passes: tuple[Pass, ...]
    disk: int
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    Attributes:
        lines: in the order of the run.
        speed: with which time is reckoned.
        measured: whether it was measured here.
    """

    lines: list[Line] = field(default_factory=list)
    speed: Speed = field(default_factory=lambda: Speed({}))
    measured: bool = True

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.speed.loading + sum(self.speed.seconds(line.passes) for line in self.lines)

    def __str__(self) -> str:
        width = max(len(name) for line in self.lines for name in (line.method, line.target))
        rows = [f"{'':<{width}}  {'tokens read':>13}  {'tokens trained on':>17}  {'time':>9}  {'disk':>8}"]
        for number, line in enumerate(self.lines):
            if line.target and (number == 0 or self.lines[number - 1].target != line.target):
                rows += ["", line.target]
            rows.append(
                self._row(line.method, [line], width) if not line.note else f"{line.method:<{width}}  {line.note}"
            )
        rows += ["", self._row("total", self.lines, width)]
        if any(one.at_most for line in self.lines for one in line.passes):
            rows.append("≤: at most; the method ends when it has nothing left to do.")
        rates = ", ".join(f"{rate:,.0f} {kind}" for kind, rate in self.speed.rates.items())
        if self.measured:
            rows.append(
                f"Tokens per second, measured here with this model: {rates}. Loading it took {self.speed.loading:.0f} s. A "
                f"thousand tokens before a token add {1000 * self.speed.looking * self.speed.rates.get('reading', 0):.0%} to "
                "its time."
            )
        else:
            rows.append(
                f"Tokens per second, as given: {rates}: a trained token counts as {BACKWARD}, a written one as {WRITING}."
            )
        rows.append(
            "Time is that of the model. Fitting probes, intervals and figures come on top, some seconds for each method."
        )
        return "\n".join(rows)

    def _row(self, name: str, lines: Sequence[Line], width: int) -> str:
        passes = [one for line in lines for one in line.passes]
        seconds = self.speed.seconds(passes) + (self.speed.loading if name == "total" else 0)
        trained = sum(one.tokens for one in passes if one.kind == "training")
        read = sum(one.tokens for one in passes) - trained
        bound = "≤ " if any(one.at_most for one in passes) else ""
        cells = [f"{bound}{part:,}" if part else "–" for part in (read, trained)]
        disk = sum(line.disk for line in lines) / 1e6
        return f"{name:<{width}}  {cells[0]:>13}  {cells[1]:>17}  {bound + _time(seconds):>9}  {disk:>5,.0f} MB"


def plan(
    config: RunConfig, out: Path | None = None, tokens_per_second: float | None = None, say: Say = lambda _: None
) -> Plan:
    """What a run will take.

    Args:
        config: of the run.
        out: its folder; what is done there already is left out.
        tokens_per_second: of verdicts read on other hardware; the model is then not loaded.
        say: called with one line per step.

    Raises:
        DomainError: a domain cannot be used, as in the run.
    """
    domains = Domains(config)
    counted = _served(config) if is_endpoint(config.model) else _here(config)
    lines = list(_lines(config, domains, counted, out))
    if tokens_per_second is not None:
        shares: dict[Kind, float] = {"reading": 1, "states": 1, "training": 1 / BACKWARD, "writing": 1 / WRITING}
        rates = {kind: tokens_per_second * share for kind, share in shares.items()}
        return Plan(lines, Speed(rates), measured=False)
    kinds = {one.kind for line in lines for one in line.passes}
    return Plan(lines, measure(config, domains.targets[0], kinds, counted, say))


class _Counted:
    """A model's prompts and sizes, without its weights.

    Args:
        tokenizer: of the model.
        context: most tokens of one sequence.
        longest: most tokens of one text.
        kind: how texts are counted.
        budget: tokens per batch, whose padding counts; None where nothing is padded.
        adapter, state: bytes of a LoRA adapter, and of the hidden states that are kept of a text.
    """

    def __init__(
        self,
        tokenizer: Any,
        context: int,
        longest: int,
        kind: type[Texts] = Texts,
        budget: int | None = None,
        adapter: int = 0,
        state: int = 0,
    ) -> None:
        self._tokenizer, self._context, self._longest = tokenizer, context, longest
        self._kind, self._budget = kind, budget
        self.adapter, self._state = adapter, state

    def texts(self, name: str, domain: Domain, learnt: int = TrainingConfig.text_tokens) -> Texts:
        """A domain's texts as this model reads them."""
        prompt = VerdictPrompt(self._tokenizer, domain.question, self._context, self._longest)
        lengths = [len(text.ids) for text in prompt.encode(domain.texts) if text.reason is None]
        tail = len(prompt.tail)
        whole = [length + tail for length in lengths]
        tokens = sum(whole) if self._budget is None else padded(whole, self._budget)
        return self._kind(
            name=f"{name} of {domain.name}",
            count=len(lengths),
            tokens=tokens - tail * len(lengths),
            shots=sum(min(length, LONGEST_SHOT) for length in lengths),
            learnt=sum(min(length, learnt) for length in lengths),
            head=len(prompt.head),
            tail=tail,
            turn=tail + 1 + len(prompt.between),
            state=self._state,
        )


def _here(config: RunConfig) -> _Counted:
    """Of a model whose configuration is here."""
    from transformers import AutoModelForCausalLM

    model, tokenizer = load_config_and_tokenizer(model_beneath(config.model))
    with torch.device("meta"):
        decoder = AutoModelForCausalLM.from_config(model).get_decoder()
    linear = [module for module in decoder.modules() if isinstance(module, torch.nn.Linear)]
    adapter = sum(4 * config.rank * (module.in_features + module.out_features) for module in linear)
    device = pick_device(config.device)
    each, budget = pick_dtype(config.dtype, device).itemsize, BUDGETS.get(device.type, BUDGETS["cpu"])
    state = 3 * len(upper_layers(model.num_hidden_layers)) * model.hidden_size * each
    longest = config.max_text_tokens or longest_text(config.model)
    return _Counted(tokenizer, context_length(model), longest, budget=budget, adapter=adapter, state=state)


def _served(config: RunConfig) -> _Counted:
    """Of a model that a server has: nothing is trained, and no hidden states are kept."""
    model = config.load()
    return _Counted(model.tokenizer, model.context_length, model.max_text_tokens, SentTexts)


def _lines(config: RunConfig, domains: Domains, counted: _Counted, out: Path | None) -> Iterator[Line]:
    """A line for the training on sources, and one for each method on each target."""
    paid: dict[tuple[str, str, str], Pass] = {}
    sources = [counted.texts("training texts", source.train.require_labels()) for source in domains.sources]
    training = [texts.trained(config.training(config.source_texts), START) for texts in sources]
    trained = out is not None and is_trained(out / "monitors" / "source" / "adapter")
    lines: list[Line] = []
    unknown = False  # whether a method, of which nobody knows what it reads, starts from the trained monitor
    for target in domains.targets:
        sizes = Sizes(
            sources=tuple(sources),
            train=counted.texts("training texts", target.train.sample(config.target_texts)),
            calibration=counted.texts("calibration texts", target.calibration.sample(config.calibration_texts)),
            test=counted.texts("test texts", target.test.sample(config.test_texts)),
            training=config.training(config.target_texts),
        )
        for name in config.methods:
            method = METHODS[name]
            done = out is not None and is_done(out, target, method)
            if not done and (note := cannot(config, method, target)):
                lines.append(Line(target.name, name, (), 0, note))
                continue
            if method.cost is None:
                unknown |= not done and method.label_free is not None
                lines.append(Line(target.name, name, (), 0, "done" if done else "its cost is not known"))
                continue
            asked = [
                one if sources or one.model != START else replace(one, model=UNTRAINED) for one in method.cost(sizes)
            ]
            passes = []
            looks = [sizes.test.first_look(model) for model in dict.fromkeys(one.model for one in asked)]
            for one in [*looks, *asked]:
                key = (one.model, one.kind, one.what)
                held = paid.get(key, replace(one, tokens=0, disk=0))
                if one.tokens > held.tokens:
                    passes.append(replace(one, tokens=one.tokens - held.tokens, disk=one.disk - held.disk))
                    paid[key] = one
            if done:  # what it read is paid for others too
                lines.append(Line(target.name, name, (), 0, "done"))
                continue
            adapter = counted.adapter * any(one.model != UNTRAINED for one in asked)
            lines.append(Line(target.name, name, tuple(passes), adapter + sum(one.disk for one in passes)))
    needed = unknown or any(one.model != UNTRAINED for line in lines for one in line.passes)
    if training and needed and not trained:
        # One training on all sources, with one start.
        together = replace(training[0], tokens=sum(one.tokens for one in training))
        ours = config.training(config.source_texts)
        count = sum(min(texts.count, config.source_texts) for texts in sources)
        looks = [
            counted.texts("validation texts", part).validated(ours, count)
            for part in domains.validation(config.source_texts)
        ]
        yield Line("", "source training", (together, *looks), counted.adapter)
    yield from lines


def measure(config: RunConfig, target: Domain, kinds: set[Kind], counted: _Counted, say: Say) -> Speed:
    """How fast the model is here, on a target's texts. Nothing comes from a cache, and nothing is kept."""
    if not kinds:
        return Speed({})
    say(f"loading {config.model}")
    since = time.perf_counter()
    model = config.load().uncached()
    loading = time.perf_counter() - since
    texts = target.train.sample(config.target_texts)
    texts = texts.take([row for row, text in enumerate(texts.texts) if text.strip()])
    rates: dict[Kind, float] = {}
    starting = looking = 0.0
    for kind in sorted(kinds):
        say(f"measuring {kind}")
        if kind == "training":
            # A training needs some texts, and the training split of a small domain may hold fewer.
            enough = texts if len(texts) >= FEWEST_ROWS else target
            rates[kind], starting = _training_rate(config, VerdictMonitor(model), enough, counted)
        elif kind == "reading":
            rates[kind], looking = _reading_rate(model, texts, counted)
        else:

            def read(some: Domain, kind: Kind = kind) -> Pass:
                if kind == "writing":
                    answers = model.generate(some.question.text, some.texts, WRITTEN)
                    return Pass(START, "", kind, sum(len(answer.ids) for answer in answers))
                here = local_model(model, "hidden states need its weights")
                here.states(some.question, some.texts, upper_layers(here.layers), log_odds=True)
                return counted.texts("", some).states()

            rates[kind] = _rate(read, texts)
    return Speed(rates, starting, loading, looking)


def _reading_rate(model: LanguageModel, texts: Domain, counted: _Counted) -> tuple[float, float]:
    """Tokens per second with nothing before them, and seconds for each token that is: from texts alone and in long sequences."""
    question = texts.question
    encoded = model.prompt(question).encode(texts.texts, LONGEST_SHOT)
    flagged = [(text, True) for text in encoded if text.reason is None]

    def alone(some: Domain) -> Pass:
        model.log_odds(question, some.texts)
        return counted.texts("", some).verdicts()

    def packed(some: Domain) -> Pass:
        size = max(2, min(PACKED, model.context_length // 2 // (max(len(text.ids) for text, _ in flagged) + 64)))
        packs = [flagged[at : at + size] for at in range(0, min(len(some), len(flagged)), size)]
        model.packed_log_odds(question, packs, "")
        return counted.texts("", some).packed(min(size, len(some)), 1)

    short, long = _timed(alone, texts), _timed(packed, texts)
    if long[0].seen <= short[0].seen:
        return short[0].tokens / short[1], 0.0
    each = [seconds / done.tokens for done, seconds in (short, long)]
    looking = max(0.0, (each[1] - each[0]) / (long[0].seen - short[0].seen))
    return 1 / max(each[0] - looking * short[0].seen, each[0] / 2), looking


def _rate(read: Callable[[Domain], Pass], texts: Domain) -> float:
    """Tokens per second, of as many texts as take long enough."""
    done, seconds = _timed(read, texts)
    return done.tokens / seconds


def _timed(read: Callable[[Domain], Pass], texts: Domain) -> tuple[Pass, float]:
    """What was read, and the seconds that it took, of as many texts as take long enough."""
    count = min(8, len(texts))
    read(texts.take(range(count)))
    while True:
        since = time.perf_counter()
        done = read(texts.take(range(count)))
        seconds = time.perf_counter() - since
        if seconds > LONG_ENOUGH or count == len(texts):
            return done, seconds
        count = min(2 * count, len(texts))


def _training_rate(config: RunConfig, base: VerdictMonitor, texts: Domain, counted: _Counted) -> tuple[float, float]:
    """Tokens per second, and seconds beside them, from two trainings of as many steps, on few texts and on four times as many.

    With too few texts for a second one, all of the first one's time is its tokens'.
    """
    importlib.import_module("elicit.training.trainer")  # which takes seconds, once
    small = max(1, config.batch_size // 4)
    few = min(max(FEWEST_ROWS, STEPS * small), len(texts))
    many = min(4 * few, len(texts))
    steps = -(-few // small)
    sizes = [(few, small)]
    if many >= 2 * few:
        sizes.append((many, min(config.batch_size, -(-many // steps))))
    tokens, seconds = [], []
    for count, batch_size in sizes:
        # Which labels are learnt does not matter here.
        rows = [Row(str(i), text, i % 2) for i, text in enumerate(texts.texts[:count])]
        domain = make_domain("speed", texts.question, rows)
        training = replace(config.training(len(rows)), epochs=1.0, batch_size=batch_size, shots=0.0)
        with tempfile.TemporaryDirectory() as folder:
            since = time.perf_counter()
            train_monitor(base, [domain], Path(folder), training, config.seed)
            seconds.append(time.perf_counter() - since)
        tokens.append(counted.texts("", domain).trained(training, START).tokens)
    if len(sizes) == 1:
        return tokens[0] / seconds[0], 0.0
    slope = max(seconds[1] - seconds[0], 1e-3) / max(1, tokens[1] - tokens[0])
    return 1 / slope, max(0.0, seconds[0] - slope * tokens[0])


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"
