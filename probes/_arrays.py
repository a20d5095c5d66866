"""Arrays in: numpy or torch, any float type, with or without axes for layers and prompt variants; checked, not copied.

States keep the type that they came in until one layer of them is worked on: a float16 array of all layers is not
doubled in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

ArrayLike: TypeAlias = "NDArray[Any] | torch.Tensor"
Floats = NDArray[np.float64]

ENTRIES_AT_ONCE = 1 << 23  # converted to float64 in one go


def as_tensor(x: ArrayLike, name: str) -> torch.Tensor:
    """A tensor on the CPU, of the type that came in where it is a float type, else float64."""
    if isinstance(x, torch.Tensor):
        tensor = x.detach().cpu()
    else:
        if hasattr(x, "toarray"):
            raise TypeError(f"{name} is a sparse container; give a dense array")
        array = np.asarray(x)
        if np.iscomplexobj(array):
            raise ValueError(f"Complex data not supported: {name} has type {array.dtype}")
        if array.dtype not in (np.float16, np.float32, np.float64):
            array = array.astype(np.float64)
        # torch can hold neither negative strides nor read-only buffers.
        tensor = torch.from_numpy(np.require(array, requirements=("C", "W")))
    return tensor if tensor.is_floating_point() else tensor.double()


def as_layers(x: ArrayLike, name: str) -> tuple[torch.Tensor, bool]:
    """(n, l, d) tensor, and whether the input had a layer axis.

    Raises:
        ValueError: another number of axes, no examples, or NaN or infinite values; the message names example and layer.
    """
    tensor = as_tensor(x, name)
    if tensor.ndim not in (2, 3):
        raise ValueError(
            f"Expected 2D array (n, d) or 3D array (n, l, d), got {name} of shape {tuple(tensor.shape)}. "
            "Reshape your data: one row per example"
        )
    _check_not_empty(tensor, name)
    layered = tensor.ndim == 3
    tensor = tensor if layered else tensor[:, None]
    _check_finite(tensor, name)
    return tensor, layered


def as_pairs(x_pos: ArrayLike, x_neg: ArrayLike) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Both halves of n contrast pairs as (n, v, l, d), and whether they had a layer axis.

    Raises:
        ValueError: the halves differ in shape, have no two to four axes or no examples, or hold NaN or infinite values.
    """
    pos, neg = as_tensor(x_pos, "x_pos"), as_tensor(x_neg, "x_neg")
    if pos.shape != neg.shape:
        raise ValueError(f"x_pos has shape {tuple(pos.shape)} and x_neg {tuple(neg.shape)}; pairs need equal shapes")
    if pos.ndim not in (2, 3, 4):
        raise ValueError(f"x_pos has shape {tuple(pos.shape)}; it must be (n, d), (n, l, d) or (n, v, l, d)")
    _check_not_empty(pos, "x_pos")
    layered = pos.ndim > 2
    axes = {2: (slice(None), None, None), 3: (slice(None), None), 4: ()}[pos.ndim]
    pos, neg = pos[axes], neg[axes]
    for tensor, name in ((pos, "x_pos"), (neg, "x_neg")):
        _check_finite(tensor, name)
    return pos, neg, layered


def row_blocks(*tensors: torch.Tensor) -> Iterator[tuple[Any, ...]]:
    """(first row, block of each tensor): blocks of rows that are small enough to be converted."""
    size = max(1, ENTRIES_AT_ONCE // tensors[0][0].numel())
    for first in range(0, len(tensors[0]), size):
        yield first, *(tensor[first : first + size] for tensor in tensors)


def _check_not_empty(tensor: torch.Tensor, name: str) -> None:
    for axis, kind in ((0, "sample"), (-1, "feature"), (-2, "layer"), (1, "variant")):
        if tensor.shape[axis] == 0:
            shape = tuple(tensor.shape)
            raise ValueError(f"{name} is empty: 0 {kind}(s) (shape={shape}) while a minimum of 1 is required.")


def _check_finite(tensor: torch.Tensor, name: str) -> None:
    """Raise where a value is NaN or infinite; the layer is the axis before the last."""
    for first, part in row_blocks(tensor):
        # A sum is finite unless a value is not, or it overflows, and is had in a fraction of the time.
        if bool(torch.isfinite(part.sum(dtype=torch.float64))) or bool(torch.isfinite(part).all()):
            continue
        place = (~torch.isfinite(part)).any(-1).nonzero()[0].tolist()
        value = "NaN" if bool(part[tuple(place)].isnan().any()) else "inf"
        row, layer = place[0] + first, place[-1]
        variant = f", prompt variant {place[1]}," if tensor.ndim == 4 and tensor.shape[1] > 1 else ""
        raise ValueError(
            f"{name}: example {row}{variant} holds {value} in layer {layer}; leave the example out, or extract states in "
            "bfloat16 or float32, which do not overflow where float16 does"
        )
