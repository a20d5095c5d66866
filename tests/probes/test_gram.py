"""Gram matrices against the plain product."""

from __future__ import annotations

import pytest
import torch

from probes._gram import centred, gram


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 17, 64])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_it_is_the_plain_product_and_symmetric(n: int, shape: tuple[int, ...]) -> None:
    rows = torch.randn(*shape, n, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    torch.testing.assert_close(gram(rows), rows @ rows.mT)
    torch.testing.assert_close(gram(rows.mT), rows.mT @ rows)


def test_centred_products_are_those_of_centred_rows() -> None:
    rows = torch.randn(2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
    middle = rows - rows.mean(1, keepdim=True)
    torch.testing.assert_close(centred(gram(rows)), middle @ middle.mT)
