"""What is asked of a run, and its domains, checked before any model is loaded."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from elicit.domains import Domain, check_names, check_overlap, drop_overlap, load_domain
from elicit.domains.domain import FEWEST_ROWS
from elicit.errors import RunError
from elicit.language_models.address import is_endpoint
from elicit.language_models.language_model import LanguageModel
from elicit.methods import METHODS, Method
from elicit.monitors.loading import load_start
from elicit.training import TrainingConfig
from elicit.training.validation import ENOUGH, validation_parts

VALIDATED = 5  # training texts for each validation text, as long as these are enough to judge by


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes.

    Attributes:
        model: catalogue name, folder, GGUF file, hub id or address of a served model.
        sources: labelled domains to train on; without any, label-free methods start from the untrained model.
        targets: domains to elicit monitors for.
        methods: names from `elicit methods`.
        seed: of everything random.
        dtype, device: of the language model.
        source_texts: at most this many texts of each source are trained on.
        target_texts: at most this many texts of a target's training split are used, with or without labels.
        calibration_texts: at most this many of its calibration split.
        test_texts: at most this many of its test split are scored.
        epochs, batch_size, learning_rate, rank, shots: of training.
        max_text_tokens: longer texts lose their middle where they are read; the model's own measure unless given.
        drop_overlap: train without the texts that a target holds too, where a source that holds such texts is refused otherwise.
    """

    model: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    methods: tuple[str, ...]
    seed: int = 0
    dtype: str = "auto"
    device: str = "auto"
    source_texts: int = 800
    target_texts: int = 400
    calibration_texts: int = 200
    test_texts: int = 1000
    epochs: float = 2.0
    batch_size: int = 16
    learning_rate: float = 1e-3
    rank: int = 16
    shots: float = 0.0
    max_text_tokens: int | None = None
    drop_overlap: bool = False

    def load(self, readings: Path | None = None) -> LanguageModel:
        """The model to start from."""
        return load_start(self.model, self.dtype, self.device, self.max_text_tokens, readings)

    def training(self, texts: int) -> TrainingConfig:
        """The training's part of the configuration."""
        return TrainingConfig(texts, self.epochs, self.batch_size, self.learning_rate, self.rank, shots=self.shots)


class Domains:
    """The run's domains, loaded and checked before any model is."""

    def __init__(self, config: RunConfig) -> None:
        for name in config.methods:
            if name not in METHODS:
                close = difflib.get_close_matches(name, METHODS, n=1)
                meant = f"; did you mean {close[0]}?" if close else ""
                raise RunError(f"there is no method {name!r}{meant} (`elicit methods` lists them)")
        if is_endpoint(config.model):
            _refuse_what_needs_weights(config)
        if not config.targets:
            raise RunError("name at least one --target")
        if not config.sources and all(METHODS[name].labels == "source" for name in config.methods):
            raise RunError(f"no source labels for {', '.join(config.methods)}; name at least one --source")
        self.sources = [load_domain(name) for name in config.sources]
        self.targets = [load_domain(name) for name in config.targets]
        check_names("sources", self.sources)
        check_names("targets", self.targets)
        self.warnings: list[str] = []
        if not config.drop_overlap:
            check_overlap(self.sources, self.targets)
        for i, source in enumerate(self.sources):
            self.sources[i] = drop_overlap(source, self.targets)
            if dropped := len(source) - len(self.sources[i]):
                self.warnings.append(f"{source.name}: texts not trained on, since a target holds them too: {dropped}")
            self.sources[i].require_labels()
            self.sources[i].train.require_labels()
        for target in self.targets:
            for split in (target.train, target.calibration, target.test):  # raises when groups leave one of them empty
                assert len(split)

    def validation(self, source_texts: int) -> list[Domain]:
        """Labelled texts of the sources' calibration splits, on which a training on so many texts of each is looked at."""
        return validation_parts(self.sources, max(2 * ENOUGH, source_texts // VALIDATED))

    def hashes(self) -> dict[str, str]:
        """Fingerprint of each domain by its part in the run: a run is not continued on changed data."""
        parts = [("source", self.sources), ("target", self.targets)]
        return {
            f"{part} {i}, {domain.name}": domain.fingerprint()
            for part, domains in parts
            for i, domain in enumerate(domains, start=1)
        }


def _refuse_what_needs_weights(config: RunConfig) -> None:
    """A server has no hidden states to give, and trains nothing."""
    for name in config.methods:
        needs = METHODS[name].needs
        if needs != "verdicts":
            raise RunError(
                f"{name} needs {needs}, and a server gives verdicts alone; leave it out or name the model's folder or hub id"
            )
        if config.sources and METHODS[name].label_free is not None:
            raise RunError(
                f"with a --source, {name} starts from a monitor that is trained here, and a server trains nothing; leave "
                "--source out, or train with --model FOLDER, serve the adapter, and name it: --model endpoint:URL#ADAPTER"
            )


def cannot(config: RunConfig, method: Method, target: Domain) -> str | None:
    """Why a method has nothing to run on here, or None."""
    if method.labels == "source" and not config.sources:
        return "there is no source"
    if method.labels == "target":
        return _too_few_labels(target.train.sample(config.target_texts))
    return None


def _too_few_labels(train: Domain) -> str | None:
    known = [label for label in train.labels if label is not None]
    if not known:
        return "the target has no labels"
    if len(set(known)) < 2 or len(known) < FEWEST_ROWS:
        return f"the target's training split has {len(known)} labels of {len(set(known))} classes"
    return None
