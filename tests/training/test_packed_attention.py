"""Attention by sequence against softmax under the whole mask of a pack."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elicit.training.packed_attention import LIKE, attention, by_sequence, rows_of
from elicit.training.packing import pack_of

SCALE = 0.3
PACKS = st.lists(st.integers(0, 9), min_size=1, max_size=3).flatmap(
    lambda begin: st.tuples(
        st.just(begin),
        st.lists(st.tuples(st.integers(1, 40), st.integers(0, len(begin) - 1)), min_size=1, max_size=7),
    )
)


def batch_of(rows: list[tuple[int, int]]) -> dict[str, torch.Tensor]:
    lengths = torch.tensor([length for length, _ in rows])
    return {
        "suffixes": torch.zeros(len(rows), int(lengths.max()), dtype=torch.long),
        "lengths": lengths,
        "heads": torch.tensor([head for _, head in rows]),
        "reads": lengths[:, None] - 1,
    }


def under_the_mask(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, softcap: float | None
) -> torch.Tensor:
    """(1, t, h, d): one head and one query after the other, over what it sees alone."""
    serves = query.shape[1] // key.shape[1]
    tokens = []
    for at in range(query.shape[2]):
        seen = mask[0, 0, at] == 0
        heads = []
        for head in range(query.shape[1]):
            scores = key[0, head // serves][seen] @ query[0, head, at] * SCALE
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            heads.append(torch.softmax(scores, 0) @ value[0, head // serves][seen])
        tokens.append(torch.stack(heads))
    return torch.stack(tokens)[None]


@given(PACKS, st.sampled_from([None, 2.0]), st.sampled_from([(1, 1), (4, 2), (3, 3)]))
@settings(max_examples=40, deadline=None)
def test_a_pack_is_attended_as_its_mask_says_with_the_gradients_of_that(packed, softcap, heads) -> None:
    begin, rows = packed
    pack = pack_of(batch_of(rows), [[0] * count for count in begin], torch.float32)
    generator = torch.Generator().manual_seed(len(pack.ids))
    states = [
        torch.randn(1, count, len(pack.ids), width, generator=generator, requires_grad=True)
        for count, width in ((heads[0], 8), (heads[1], 8), (heads[1], 6))
    ]
    weight = torch.randn(1, len(pack.ids), heads[0], 6, generator=generator)
    expected = under_the_mask(*states, pack.mask, softcap)
    right = torch.autograd.grad((expected * weight).sum(), states)
    bare = pack.mask.clone()  # without what it is made of
    for mask in (pack.mask, bare):
        found, _ = attention(torch.nn.Module(), *states, mask, scaling=SCALE, softcap=softcap)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        for mine, gradient in zip(torch.autograd.grad((found * weight).sum(), states), right, strict=True):
            torch.testing.assert_close(mine, gradient, atol=1e-5, rtol=1e-4)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30))
def test_what_fills_up_a_group_costs_at_most_as_much_again(lengths: list[int]) -> None:
    rows = rows_of([7], lengths, [0] * len(lengths), torch.device("cpu"))
    assert sum(group.own.numel() for group in rows.groups) < LIKE * (7 + sum(lengths))
    assert sorted(set(rows.order.tolist())) == sorted(rows.order.tolist())
    places = torch.cat([group.own.flatten() for group in rows.groups])
    assert places[rows.order].tolist() == list(range(7 + sum(lengths)))


def test_a_model_attends_in_its_own_way_again_afterwards(base) -> None:
    model = base.model.transformers_model
    before = model.config._attn_implementation
    with by_sequence(model):
        assert model.config._attn_implementation != before
    assert model.config._attn_implementation == before
