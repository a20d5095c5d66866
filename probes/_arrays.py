"""Arrays in: numpy or torch, any float dtype, with or without a layer axis; checked, and given back as float32 `(n, l, d)`."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

ArrayLike: TypeAlias = "NDArray[Any] | torch.Tensor"
Floats = NDArray[np.float64]


def as_layers(x: ArrayLike, name: str) -> tuple[torch.Tensor, bool]:
    """(n, l, d) float32 tensor, and whether the input had a layer axis.

    Raises:
        ValueError: another number of axes, no examples, or NaN or infinite values; the message names example and layer.
    """
    tensor = x.detach().float() if isinstance(x, torch.Tensor) else torch.from_numpy(np.asarray(x, dtype=np.float32))
    if tensor.ndim not in (2, 3):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be (n, d) or (n, l, d)")
    layered = tensor.ndim == 3
    tensor = tensor if layered else tensor[:, None]
    if 0 in tensor.shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it is empty")
    bad = (~torch.isfinite(tensor)).any(-1).nonzero()
    if len(bad):
        row, layer = bad[0].tolist()
        raise ValueError(
            f"{name}: example {row} has NaN or infinite values in layer {layer}; leave the example out, or extract states in "
            "bfloat16 or float32, which do not overflow where float16 does"
        )
    return tensor, layered


def as_pairs(x_pos: ArrayLike, x_neg: ArrayLike) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Both halves of n contrast pairs as (n, l, d), and whether they had a layer axis.

    Raises:
        ValueError: as in `as_layers`, or the halves differ in shape.
    """
    pos, layered = as_layers(x_pos, "x_pos")
    neg, _ = as_layers(x_neg, "x_neg")
    if np.shape(x_pos) != np.shape(x_neg):
        raise ValueError(
            f"x_pos has shape {tuple(np.shape(x_pos))} and x_neg {tuple(np.shape(x_neg))}; pairs need equal shapes"
        )
    return pos, neg, layered


def as_labels(y: ArrayLike, n: int) -> NDArray[np.int64]:
    """(n,) labels 0 or 1.

    Raises:
        ValueError: another length, other values, or one class only.
    """
    labels = np.asarray(y.detach().cpu() if isinstance(y, torch.Tensor) else y)
    if labels.shape != (n,):
        raise ValueError(f"y has shape {labels.shape}; {n} examples need ({n},)")
    wrong = np.flatnonzero(~np.isin(labels, (0, 1)))
    if len(wrong):
        raise ValueError(f"y[{wrong[0]}] is {labels[wrong[0]]}; labels are 0 or 1")
    if len(np.unique(labels)) < 2:
        raise ValueError(f"every label is {labels[0]}; a supervised probe needs both classes")
    return labels.astype(np.int64)
