"""Labels in: any two values, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from probes._arrays import ArrayLike


def as_labels(y: ArrayLike, n: int) -> NDArray[Any]:
    """(n,) labels.

    Raises:
        ValueError: none at all, another number than n, NaN or infinite values, or values of a continuous kind.
    """
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")
    labels = column_or_1d(np.asarray(y.detach().cpu() if isinstance(y, torch.Tensor) else y), warn=True)
    if labels.dtype.kind == "f":
        wrong = np.flatnonzero(~np.isfinite(labels))
        if len(wrong):
            raise ValueError(
                f"y[{wrong[0]}] is {labels[wrong[0]]}: labels must not be NaN or inf; leave unlabelled texts out"
            )
    check_classification_targets(labels)
    if len(labels) != n:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {n} states, {len(labels)} labels"
        )
    return np.asarray(labels)
