"""Zoneout and layer normalisation inside the GRU: the same for every backend, and what their papers say."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.core import GRU, BackendError
from gatelab.core.backends.native import unavailable

EXTRAS = {
    "zoneout": {"zoneout": 0.3},
    "norm": {"layer_norm": True},
    "both": {"zoneout": 0.3, "layer_norm": True},
}
KINDS = pytest.mark.parametrize("kind", ["whole", "ragged", "resets"])
WHAT = pytest.mark.parametrize("extra", list(EXTRAS))
AFTER = pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
NATIVE = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def _options(kind: str, steps: int, batch: int) -> dict[str, Any]:
    if kind == "ragged":
        return {"lengths": torch.tensor([steps, 0, 2, 1, steps][:batch])}
    return {"reset_mask": torch.rand(steps, batch) < 0.3} if kind == "resets" else {}


def _pair(name: str, **arguments: Any) -> tuple[GRU, GRU]:
    reference = GRU(4, 6, 2, bidirectional=True, backend="reference", **arguments)
    with torch.no_grad():
        for parameter in reference.parameters():  # gains and biases away from 1 and 0
            parameter.add_(torch.randn_like(parameter) * 0.2)
    other = GRU(4, 6, 2, bidirectional=True, backend=name, **arguments)  # type: ignore[arg-type]
    other.load_state_dict(reference.state_dict())
    return reference, other


def _everything(gru: GRU, x: Tensor, h0: Tensor, **options: Any) -> list[Tensor]:
    torch.manual_seed(3)  # of the masks
    leaves = [x.clone().requires_grad_(), h0.clone().requires_grad_()]
    y, h = gru(*leaves, **options)
    dy = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, h, *torch.autograd.grad((y, h), [*leaves, *gru.parameters()], (dy, torch.ones_like(h)))]


@KINDS
@AFTER
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.quick(4, rest="ci")
def test_the_torch_backend_equals_the_reference(kind: str, after: bool, training: bool) -> None:
    torch.manual_seed(0)
    pair = _pair("torch", reset_after=after, dtype=torch.float64, zoneout=0.3)
    x, h0 = torch.randn(7, 5, 4, dtype=torch.float64), torch.randn(4, 5, 6, dtype=torch.float64)
    options = _options(kind, 7, 5)
    want, got = (_everything(gru.train(training), x, h0, **options) for gru in pair)
    for a, b in zip(want, got, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-11, atol=1e-12)


@NATIVE
@KINDS
@AFTER
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.quick(7, rest="ci")
def test_the_native_backend_draws_and_computes_the_same_zoneout(
    kind: str, after: bool, training: bool
) -> None:
    torch.manual_seed(0)
    pair = _pair("native", reset_after=after, zoneout=0.3)
    x, h0, options = torch.randn(7, 5, 4), torch.randn(4, 5, 6), _options(kind, 7, 5)
    want, got = (_everything(gru.train(training), x, h0, **options) for gru in pair)
    for a, b in zip(want, got, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=2e-6)


@AFTER
@pytest.mark.parametrize(
    ("backend", "extra"), [*(("reference", extra) for extra in EXTRAS), ("torch", "zoneout")]
)
@pytest.mark.quick(3, rest="ci")
def test_gradients_of_first_and_second_order_are_those_of_differences(
    extra: str, after: bool, backend: Any
) -> None:
    torch.manual_seed(0)
    gru = GRU(2, 2, reset_after=after, dtype=torch.float64, backend=backend, **EXTRAS[extra])
    names, values = zip(*gru.named_parameters(), strict=True)
    x = torch.randn(3, 1, 2, dtype=torch.float64, requires_grad=True)

    def call(x: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)  # the same masks in every call
        found: tuple[Tensor, Tensor] = torch.func.functional_call(
            gru, dict(zip(names, values, strict=True)), (x,)
        )
        return found

    leaves = [v.detach().requires_grad_() for v in values]
    plain_autograd = (
        backend == "reference"
    )  # random directions suffice; of the written-out backend every entry
    assert torch.autograd.gradcheck(call, (x, *leaves), fast_mode=plain_autograd)
    assert torch.autograd.gradgradcheck(call, (x, *leaves), fast_mode=plain_autograd)


def test_in_training_units_keep_their_state_as_often_as_asked() -> None:
    torch.manual_seed(0)
    gru, h0 = GRU(4, 500, zoneout=0.25, backend="reference"), torch.randn(1, 40, 500)
    y, _ = gru(torch.randn(1, 40, 4), h0)
    kept = (y[0] == h0[0]).float().mean()
    assert abs(float(kept) - 0.25) < 4 * (0.25 * 0.75 / 20000) ** 0.5


@pytest.mark.parametrize("backend", ["reference", "torch", pytest.param("native", marks=NATIVE)])
def test_in_evaluation_the_state_is_the_expectation(backend: Any) -> None:
    torch.manual_seed(0)
    gru = GRU(4, 6, zoneout=0.25, backend=backend).eval()
    plain = GRU(4, 6, backend="reference")
    plain.load_state_dict(gru.state_dict())
    h, x = torch.randn(1, 3, 6), torch.randn(5, 3, 4)
    y, _ = gru(x, h)
    for t in range(5):
        _, new = plain(x[t : t + 1], h)
        h = 0.25 * h + 0.75 * new
        torch.testing.assert_close(y[t], h[0])


def test_normalised_products_have_the_gains_and_biases_of_layer_norm() -> None:
    torch.manual_seed(0)
    gru = GRU(3, 5, layer_norm=True, backend="reference")
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.add_(torch.randn_like(parameter))
    x, h = torch.randn(1, 2, 3), torch.randn(1, 2, 5)

    def gates(value: Tensor, weight: Tensor, gain: Tensor, bias: Tensor) -> list[Tensor]:
        rows = zip(weight.chunk(3), gain.chunk(3), bias.chunk(3), strict=True)
        return [F.layer_norm(F.linear(value, w), (5,), g, b) for w, g, b in rows]

    i = gates(x[0], gru.weight_ih_l0, gru.gain_ih_l0, gru.bias_ih_l0)  # type: ignore[arg-type]
    s = gates(h[0], gru.weight_hh_l0, gru.gain_hh_l0, gru.bias_hh_l0)  # type: ignore[arg-type]
    r, z = torch.sigmoid(i[0] + s[0]), torch.sigmoid(i[1] + s[1])
    n = torch.tanh(i[2] + r * s[2])
    torch.testing.assert_close(gru(x, h)[0][0], (1 - z) * n + z * h[0])


def test_a_normalised_gru_hands_over_and_says_so() -> None:
    x = torch.randn(3, 2, 4)
    told = GRU(4, 6, layer_norm=True).explain(x)
    assert told.backend == "reference"
    for name in ("native", "torch"):
        assert "no layer normalisation" in told.others[name]
        with pytest.raises(BackendError, match="no layer normalisation"):
            GRU(4, 6, layer_norm=True, backend=name)(x)
    assert told.others["cudnn"]


@NATIVE
def test_zoneout_stays_in_the_kernel() -> None:
    assert GRU(4, 64, zoneout=0.1).explain(torch.randn(35, 20, 4)).backend == "native"


@pytest.mark.parametrize("wrong", [{"zoneout": 1.0}, {"zoneout": -0.1}, {"zoneout": True}])
def test_a_probability_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="zoneout must be a probability below 1"):
        GRU(4, 6, **wrong)


def test_one_normalised_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size of 2 or more"):
        GRU(4, 1, layer_norm=True)


@WHAT
def test_copies_compute_the_same_and_packed_input_works(extra: str) -> None:
    gru = GRU(4, 6, **EXTRAS[extra])
    x = torch.nn.utils.rnn.pack_padded_sequence(torch.randn(5, 3, 4), torch.tensor([5, 3, 1]))
    torch.manual_seed(1)
    want = gru(x)[0].data
    torch.manual_seed(1)
    torch.testing.assert_close(copy.deepcopy(gru)(x)[0].data, want)
