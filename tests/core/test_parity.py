"""Our GRU equals torch.nn.GRU: outputs, final state and every gradient, to the last digits that float64 has.

The bars: in float64 a relative error of 1e-12; in float32 at most twice `nn.GRU`'s own error against the
float64 result, plus 1e-6. The table of these figures is written by `scripts/checks/parity.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatelab.core.gru import GRU

Measure = Callable[[Tensor, Tensor], float]
STEPS, BATCH, WIDTH, HIDDEN = 7, 4, 3, 5
LENGTHS = [3, 7, 1, 5]


def _run(layer: nn.Module, x: Tensor, h0: Tensor, lengths: list[int] | None) -> dict[str, Tensor]:
    """Outputs and all gradients of a loss in which every output and every state has its own weight."""
    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    if lengths is None:
        y, h = layer(x, h0)
    elif isinstance(layer, GRU):
        y, h = layer(x, h0, lengths=lengths)
    else:
        first = bool(layer.batch_first)
        packed = pack_padded_sequence(x, torch.tensor(lengths), first, enforce_sorted=False)
        y, h = layer(packed, h0)
        y = pad_packed_sequence(y, first)[0]
    dy = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    dh = torch.linspace(-2, 1, h.numel(), dtype=y.dtype).view(h.shape)
    parameters = dict(layer.named_parameters())
    grads = torch.autograd.grad((y, h), (x, h0, *parameters.values()), (dy, dh))
    return {"output": y, "h_n": h, **dict(zip(("dx", "dh0", *parameters), grads, strict=True))}


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "ragged"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gru_equals_nn_gru_in_float64(
    layers: int,
    bidirectional: bool,
    batch_first: bool,
    lengths: list[int] | None,
    backend: Any,
    error: Measure,
) -> None:
    options: dict[str, Any] = {
        "num_layers": layers,
        "bidirectional": bidirectional,
        "batch_first": batch_first,
        "dtype": torch.float64,
    }
    ours = GRU(WIDTH, HIDDEN, **options, backend=backend)
    theirs = nn.GRU(WIDTH, HIDDEN, **options)
    theirs.load_state_dict(ours.state_dict())
    shape = (BATCH, STEPS, WIDTH) if batch_first else (STEPS, BATCH, WIDTH)
    x = torch.randn(shape, dtype=torch.float64)
    h0 = torch.randn(layers * (2 if bidirectional else 1), BATCH, HIDDEN, dtype=torch.float64)
    got, want = _run(ours, x, h0, lengths), _run(theirs, x, h0, lengths)
    assert got.keys() == want.keys()
    assert {name: e for name in want if (e := error(got[name], want[name])) > 1e-12} == {}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_float32_is_as_exact_as_nn_gru(backend: Any, threads: int, error: Measure) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours = GRU(16, 32, 2, backend=backend)
        theirs, exact = nn.GRU(16, 32, 2), nn.GRU(16, 32, 2, dtype=torch.float64)
        theirs.load_state_dict(ours.state_dict())
        exact.load_state_dict(ours.state_dict())
        x, h0 = torch.randn(40, 8, 16), torch.randn(2, 8, 32)
        oracle = _run(exact, x.double(), h0.double(), None)
        got, peer = _run(ours, x, h0, None), _run(theirs, x, h0, None)
    finally:
        torch.set_num_threads(before)
    for name, want in oracle.items():
        assert error(got[name], want) <= 2 * error(peer[name], want) + 1e-6, name
