"""Single-token classification training on labelled domains."""

from elicit.training.verdict_training import TrainingConfig, train_monitor

__all__ = ["TrainingConfig", "train_monitor"]
