"""Attention by matrix products, against PyTorch's own in float32."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from elicit.language_models.attention import NAME, attention, by_matrix_products

CAUSAL = SimpleNamespace(is_causal=True, num_key_value_groups=3)


def tensors(batch: int, length: int, seen: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    shapes = ((batch, 6, length, 16), (batch, 2, seen, 16), (batch, 2, seen, 16))
    return tuple(torch.randn(shape, generator=random).bfloat16() for shape in shapes)


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(b, t, h, d) in float32, every key/value head three times."""
    wide = [each.float().repeat_interleave(3, 1) for each in (key, value)]
    return scaled_dot_product_attention(query.float(), *wide, attn_mask=mask).transpose(1, 2)


@pytest.mark.parametrize("length", [2, 255, 256, 257, 600])
def test_each_query_sees_the_keys_up_to_its_own(length: int) -> None:
    query, key, value = tensors(2, length, length)
    found, _ = attention(CAUSAL, query, key, value, None)
    right = reference(query, key, value, torch.ones(length, length, dtype=torch.bool).tril())
    torch.testing.assert_close(found.float(), right, atol=0.03, rtol=0.03)
    # Another key or value is seen by the queries at and behind its place, and by no other.
    at = length // 2
    key[:, :, at] += 1
    value[:, :, at] += 1
    moved, _ = attention(CAUSAL, query, key, value, None)
    assert torch.equal(moved[:, :at], found[:, :at])
    assert (moved[:, at:] != found[:, at:]).flatten(2).any(-1).all()


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("rows", [1, 3])
def test_behind_a_prefix_and_under_masks_of_ones_own(kind: str, rows: int) -> None:
    """300 queries behind 40 keys that all of them see; in some rows a key in the middle is hidden."""
    query, key, value = tensors(3, 300, 340)
    seen = torch.ones(300, 340, dtype=torch.bool).tril(40).repeat(rows, 1, 1, 1)
    seen[-1, :, 100:, 90] = False
    mask = (
        seen
        if kind == "bool"
        else torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.bfloat16).min).bfloat16()
    )
    found, _ = attention(CAUSAL, query, key, value, mask, scaling=0.1)
    right = reference(query * 0.4, key, value, seen)  # 0.1 is 0.4 times what 16 dimensions are scaled by
    torch.testing.assert_close(found.float(), right, atol=0.03, rtol=0.03)


def test_a_query_that_sees_nothing_gives_numbers() -> None:
    query, key, value = tensors(1, 4, 4)
    seen = torch.ones(4, 4, dtype=torch.bool).tril()[None, None].clone()
    seen[:, :, 0] = False
    found, _ = attention(CAUSAL, query, key, value, seen)
    assert found.isfinite().all()


def test_one_query_or_another_dtype_is_left_to_pytorch() -> None:
    query, key, value = tensors(2, 1, 30)
    found, _ = attention(CAUSAL, query, key, value, None)
    right = reference(query, key, value, torch.ones(1, 30, dtype=torch.bool))
    torch.testing.assert_close(found.float(), right, atol=0.03, rtol=0.03)
    query, key, value = (each.float() for each in tensors(2, 50, 50))
    found, _ = attention(CAUSAL, query, key, value, None)
    right = reference(query, key, value, torch.ones(50, 50, dtype=torch.bool).tril())
    torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-5)


def test_a_model_uses_it_in_bfloat16_on_a_cpu_and_within_the_block_alone(make_model) -> None:
    model = make_model()
    with by_matrix_products(model):
        assert model.config._attn_implementation == "sdpa"
    model = model.to(torch.bfloat16)
    ids = torch.arange(20)[None] % 10 + 1
    own = model(ids).logits
    with by_matrix_products(model):
        assert model.config._attn_implementation == NAME
        other = model(ids).logits
    assert model.config._attn_implementation == "sdpa"
    assert not torch.equal(own, other)
    assert (other - own).float().norm() < 0.05 * own.float().norm()
