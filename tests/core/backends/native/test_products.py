"""The products of a linear layer in BF16: how exact they are, where they are used, what must not change their bits."""

import native_cases as cases
import pytest
import torch

from gatelab.core.backends.native import load, products
from gatelab.core.backends.native.kernel import ISAS
from gatelab.core.backends.native.products import FEWEST_ROWS, Products, RoundedProducts, products_of

SIZES = [(1, 1, 1), (2, 33, 5), (73, 65, 259), (129, 31, 64), (300, 450, 34)]  # R, F, V


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    cases.on_isa(request.param, monkeypatch)


def results(kind, x, dy, weight, adds):
    """y, dx and dw as `kind` computes them, from rows that may lie apart."""
    made = kind(weight)
    (rows, features), outputs = x.shape, len(weight)

    def room(columns):
        return torch.full((rows, made.apart(columns)), torch.nan, dtype=x.dtype)[:, :columns]

    y, dx = room(outputs), room(features)
    dw = torch.ones_like(weight) if adds else torch.full_like(weight, torch.nan)
    made.outputs(x, out=y)
    made.input_gradient(dy, out=dx)
    made.weight_gradient(dy, x, out=dw, adds=adds)
    made.release()
    return y, dx, dw


def tensors(rows, features, outputs):
    torch.manual_seed(0)
    return (
        torch.randn(rows, features),
        torch.randn(rows, outputs + 3)[:, :outputs],
        torch.randn(outputs, features),
    )


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_products_of_numbers_that_bf16_has_are_exact(isa, size, adds):
    short = [t.bfloat16().float() for t in tensors(*size)]
    exact = results(Products, *[t.double() for t in short], adds)
    for found, want in zip(results(RoundedProducts, *short, adds), exact, strict=True):
        assert cases.error(found, want) < 2e-6


@pytest.mark.parametrize("size", SIZES)
def test_other_products_are_those_of_the_rounded_numbers(isa, size):
    given = tensors(*size)
    exact = results(Products, *[t.bfloat16().double() for t in given], True)
    for found, want in zip(results(RoundedProducts, *given, True), exact, strict=True):
        assert cases.error(found, want) < 2e-6


def test_bits_do_not_depend_on_threads(isa, threads):
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(results(RoundedProducts, *tensors(300, 66, 130), False))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


def test_they_are_used_where_rounding_is_allowed_and_pytorch_has_nothing_faster(monkeypatch):
    weight, has = torch.randn(6, 4), load().isa == "avx512_bf16"
    monkeypatch.setattr(products, "has_amx", lambda: False)
    torch.set_float32_matmul_precision("medium")
    try:
        assert isinstance(products_of(weight, FEWEST_ROWS), RoundedProducts) == has
        assert type(products_of(weight, FEWEST_ROWS - 1)) is Products
        monkeypatch.setattr(products, "has_amx", lambda: True)
        assert type(products_of(weight, FEWEST_ROWS)) is Products
    finally:
        torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(products, "has_amx", lambda: False)
    assert type(products_of(weight, FEWEST_ROWS)) is Products
