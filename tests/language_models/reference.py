"""What the engine is compared with: a model's own forward pass, one prompt at a time."""

from __future__ import annotations

import numpy as np
import torch

from elicit.language_models.engine import Engine
from elicit.language_models.prompts import Verdict

FAST = (
    "llama", "llama-untied", "qwen2", "qwen2-window", "qwen3", "gemma2", "gemma3", "mistral-window", "gpt-neox", "gpt2",
    "phi", "opt", "cohere", "granite", "bloom", "mpt",
)  # fmt: skip
CLOSE = {"rtol": 0, "atol": 1e-4}
VERDICT = Verdict(257, 259)


def sequences(lengths: list[int], seed: int = 0) -> list[list[int]]:
    dice = np.random.default_rng(seed)
    return [dice.integers(0, 256, length).tolist() for length in lengths]


PREFIX = sequences([23], seed=1)[0]
SUFFIXES = sequences([5, 31, 12, 1, 40, 12, 7, 30])


def with_lora(model, seed: int = 0):
    """LoRA layers in every linear layer, none of them zero."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    # Conv1D (GPT-2) and fused projections are linear layers too.
    peft = get_peft_model(model, LoraConfig(r=2, lora_alpha=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    peft.eval()
    return model


@torch.no_grad()
def own_logits(model, ids: list[int]) -> torch.Tensor:
    """(t, vocabulary) the model's own logits."""
    return model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).logits[0]


def own_log_odds(model, ids: list[int]) -> float:
    logits = own_logits(model, ids)[-1]
    return float(logits[VERDICT.flagged] - logits[VERDICT.cleared])


@torch.no_grad()
def own_states(model, ids: list[int], layers: list[int]) -> torch.Tensor:
    """(t, l, d) outputs of decoder layers, caught by hooks: the last of `output_hidden_states` is normed already."""
    caught = {}
    stack = Engine(model).layers
    handles = [
        stack[layer].register_forward_hook(
            lambda _m, _i, out, layer=layer: caught.update({layer: out[0] if isinstance(out, tuple) else out})
        )
        for layer in layers
    ]
    model(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return torch.stack([caught[layer][0] for layer in layers], 1)


def engine_states(engine: Engine, prefix: list[int], suffixes: list[list[int]], layers: list[int]) -> torch.Tensor:
    """(n, 3, l, d), put back into order."""
    out: list[torch.Tensor | None] = [None] * len(suffixes)
    for rows, states in engine.contrast_states(prefix, suffixes, VERDICT, layers):
        for row, state in zip(rows, states, strict=True):
            out[row] = state
    return torch.stack([state for state in out if state is not None])


def assert_same_states(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal within 1e-4 of the largest entry: the residual stream of these models grows to some hundreds."""
    assert float((found - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


def ends(suffixes: list[list[int]]) -> list[list[int]]:
    return [[len(suffix) - 1] for suffix in suffixes]
