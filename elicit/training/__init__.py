"""Single-token classification training on labelled domains, and instruction following beside it."""

from elicit.training.config import TrainingConfig
from elicit.training.verdict_training import Training, is_trained, train, train_monitor, training_notes

__all__ = ["Training", "TrainingConfig", "is_trained", "train", "train_monitor", "training_notes"]
