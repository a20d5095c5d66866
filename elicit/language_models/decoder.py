"""Where the decoders of transformers, which name things in several ways, keep their parts."""

from __future__ import annotations

from typing import Any

from torch import nn

FINAL_NORMS = ("norm", "ln_f", "norm_f", "final_layer_norm", "final_layernorm")


def decoder_layers(decoder: Any) -> tuple[str, nn.ModuleList]:
    """A decoder's list of layers, and the name under which it holds it."""
    for name in ("layers", "h", "blocks"):
        found = getattr(decoder, name, None)
        if isinstance(found, nn.ModuleList):
            return name, found
    raise NotImplementedError(f"no list of decoder layers is known for {type(decoder).__name__}")


def sliding_window(model: Any) -> int | None:
    """Tokens that local attention reaches back, or None when all layers see everything."""
    config = model.config.get_text_config()
    used = getattr(config, "use_sliding_window", True)
    window = getattr(config, "sliding_window", None)
    return int(window) if used and window else None


def final_norm(decoder: Any) -> nn.Module:
    """The norm between a decoder's last layer and the output head."""
    norm: nn.Module | None = next(
        (found for name in FINAL_NORMS if (found := getattr(decoder, name, None)) is not None), None
    )
    if norm is None or getattr(decoder, "project_out", None) is not None:
        raise NotImplementedError("no final norm is known")
    return norm
