"""Every backend of a device against `reference` in float64: outputs, final state and all gradients.

The bars: float64 1e-12; float32 twice nn.GRU's own error plus 1e-6; tf32 twice nn.GRU's plus 1e-3; bfloat16 2e-2 and
float16 4e-3, or one and a half times nn.GRU's where that is more. Where nn.GRU has no such case, plain PyTorch, which
is `reference`, stands in for it. An error is max|a - b| / max|b|.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import cycle, product
from typing import Any

from scripts.checks.gpu.setup import Row, Setup, dtype_of, said, set_tf32

PRECISIONS = ("float64", "float32", "tf32", "bfloat16", "float16")
QUANTITIES = ("output", "h_n", "dx", "dh0")
HALF = {"bfloat16": 2e-2, "float16": 4e-3}
SIZES = (
    (61, 16, 24, 96),
    (17, 3, 5, 33),
    (40, 64, 64, 256),
    (12, 8, 40, 768),
    (9, 20, 128, 1024),
    (1, 1, 16, 16),
    (5, 20, 40, 2048),
)
SMALL = ((9, 4, 5, 7), (1, 1, 4, 4))
"""T, B, D, H: the first with everything, of the others every second with lengths. The weights of 2048 units, and in
float32 those of 1024, do not fit on a GPU's chip.
"""
FULL_GRAPH = ("auto", "triton", "native")
"""Backends that `torch.compile(fullgraph=True)` has to take; of the others a refusal is told and no fault."""


def parity(at: Setup, precision: str, after: bool) -> Iterator[Row]:
    """One row for each case of a variant and backend."""
    import torch

    set_tf32(precision == "tf32")
    for case in cases(at, after):
        steps, batch, _, _ = case["T,B,D,H"]
        given: Row = {}
        torch.manual_seed(0)
        if "lengths" in case["extra"]:
            given["lengths"] = torch.randint(1, steps + 1, (batch,))
            given["lengths"][0] = steps
        if "resets" in case["extra"]:
            given["reset_mask"] = torch.rand(steps, batch, device=at.device) < 0.1
        yield from compared({"precision": precision, **case}, given, at.device)


def cases(at: Setup, after: bool) -> Iterator[Row]:
    """Sizes, and what else a call may have."""
    first, *others = SMALL if at.quick else SIZES
    every = {"reset_after": after, "layers": 2, "both": True}
    for extra in ("none", "lengths", "resets", "lengths and resets", "zoneout"):
        yield {"T,B,D,H": first, **every, "extra": extra}
    one = {"reset_after": after, "layers": 1, "both": False}
    for size, extra in zip(others, cycle(("none", "lengths")), strict=False):
        yield {"T,B,D,H": size, **one, "extra": extra}


def compared(case: Row, given: Row, device: str) -> Iterator[Row]:
    """The rows of a case."""
    import torch
    from torch import nn

    from gatelab.core.backends import BACKENDS, BackendError
    from gatelab.core.gru import GRU

    steps, batch, inputs, hidden = case["T,B,D,H"]
    layers, both, after, extra = (case[key] for key in ("layers", "both", "reset_after", "extra"))
    dtype = dtype_of(case["precision"])
    options: Row = {"num_layers": layers, "bidirectional": both, "device": device}
    ours: Row = {"reset_after": after, "zoneout": 0.2 if extra == "zoneout" else 0.0}
    weights = GRU(inputs, hidden, **options, **ours, dtype=dtype).state_dict()
    x = torch.randn(steps, batch, inputs, device=device, dtype=dtype)
    h0 = torch.randn(layers * (1 + both), batch, hidden, device=device, dtype=dtype)

    def answer(layer: Any, double: bool = False) -> dict[str, Any]:
        layer.load_state_dict(weights)
        return outcome(layer, *((x.double(), h0.double()) if double else (x, h0)), given)

    exact = answer(GRU(inputs, hidden, **options, **ours, dtype=torch.float64, backend="reference"), True)
    peer: dict[str, float] = {}
    if after and extra in ("none", "lengths"):
        peer = errors(answer(nn.GRU(inputs, hidden, **options, dtype=dtype)), exact)
    own: dict[str, float] = {}
    for backend in BACKENDS:
        try:
            layer = GRU(inputs, hidden, **options, **ours, dtype=dtype, backend=backend)
            found = errors(answer(layer), exact)
        except BackendError as error:
            yield {**case, "backend": backend, "refused": str(error), "ok": None}
        except Exception as error:
            yield {**case, "backend": backend, "refused": said(error), "ok": False}
        else:
            own = own or found  # `reference` comes first: what plain PyTorch reaches stands in for nn.GRU
            yield judged(case, backend, case["precision"], found, peer or own)


def outcome(layer: Any, x: Any, h0: Any, given: Row) -> dict[str, Any]:
    """Outputs and gradients of a loss that weighs every output and state differently."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    torch.manual_seed(1)  # zoneout draws the same masks in every precision
    if isinstance(layer, nn.GRU) and given:
        first = layer.batch_first
        packed, h = layer(pack_padded_sequence(x, given["lengths"], first, enforce_sorted=False), h0)
        y = pad_packed_sequence(packed, first, total_length=x.shape[int(first)])[0]
    else:
        y, h = layer(x, h0, **{name: value.to(x.device) for name, value in given.items()})
    names, parameters = zip(*layer.named_parameters(), strict=True)
    found = (y.detach(), h.detach(), *torch.autograd.grad((y, h), (x, h0, *parameters), weighed(y, h)))
    return dict(zip((*QUANTITIES, *(f"d{name}" for name in names)), found, strict=True))


def weighed(y: Any, h: Any) -> tuple[Any, Any]:
    """Gradients of a loss by outputs and final state, each another number."""
    import torch

    dy = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y)
    return dy, torch.linspace(-2, 1, h.numel(), dtype=torch.float64).view(h.shape).to(h)


def errors(got: dict[str, Any], want: dict[str, Any]) -> dict[str, float]:
    """max|a - b| / max|b| of each quantity."""
    return {name: float((got[name].double() - b).abs().max() / b.abs().max()) for name, b in want.items()}


def bar(precision: str, peer: float) -> float:
    """The largest error allowed, where nn.GRU has the error `peer`."""
    bars = {"float64": 1e-12, "float32": 2 * peer + 1e-6, "tf32": 2 * peer + 1e-3}
    return bars[precision] if precision in bars else max(HALF[precision], 1.5 * peer)


def judged(case: Row, backend: str, precision: str, found: dict[str, float], peer: dict[str, float]) -> Row:
    """The quantity that comes nearest to its bar, or passes it."""
    shares = {name: error / bar(precision, peer.get(name, 0.0)) for name, error in found.items()}
    worst = max(shares, key=lambda name: math.inf if math.isnan(shares[name]) else shares[name])
    error, allowed = found[worst], bar(precision, peer.get(worst, 0.0))
    row = {**case, "backend": backend, "worst": worst, "error": error, "bar": allowed}
    return row | {"ok": math.isfinite(error) and error <= allowed}


def parity_table(rows: list[Row]) -> list[Row]:
    """One line for each backend and precision."""
    lines = []
    for backend, precision in dict.fromkeys((r["backend"], r["precision"]) for r in rows):
        mine = [r for r in rows if (r["backend"], r["precision"]) == (backend, precision)]
        ran = [r for r in mine if "error" in r]
        line: Row = {"backend": backend, "precision": precision, "cases": len(ran)}
        line |= {"refused": len(mine) - len(ran), "failed": sum(r["ok"] is False for r in mine)}
        if ran:
            worst = max(ran, key=lambda r: (not r["ok"], r["error"] / r["bar"]))
            keys = ("worst", "error", "bar", "T,B,D,H", "reset_after", "layers", "extra")
            line["worst case"] = ", ".join(f"{key} {worst[key]}" for key in keys)
        else:
            line["worst case"] = mine[0]["refused"]
        lines.append(line)
    return lines


def graphs(at: Setup) -> Iterator[Row]:
    """A gradient of a gradient, and `torch.compile(fullgraph=True)`: one small case for each backend, in float32."""
    import torch

    from gatelab.core.backends import BACKENDS
    from gatelab.core.gru import GRU

    set_tf32(False)
    steps, batch, inputs, hidden = (5, 2, 3, 4) if at.quick else (6, 8, 16, 32)
    torch.manual_seed(0)
    weights = GRU(inputs, hidden, dtype=torch.float64).state_dict()
    x = torch.randn(steps, batch, inputs, device=at.device, dtype=torch.float64)
    h0 = torch.randn(1, batch, hidden, device=at.device, dtype=torch.float64)
    compiler = "aot_eager" if at.quick else "inductor"

    def layer(backend: str, dtype: Any) -> Any:
        made = GRU(inputs, hidden, device=at.device, dtype=dtype, backend=backend)
        made.load_state_dict(weights)
        return made

    def compiled(gru: Any, x: Any, h0: Any) -> dict[str, Any]:
        torch.compiler.reset()
        forward = gru.forward
        gru.forward = torch.compile(forward, fullgraph=True, backend=compiler)
        return outcome(gru, x, h0, {})

    def eager(gru: Any, x: Any, h0: Any) -> dict[str, Any]:
        return outcome(gru, x, h0, {})

    kinds: list[tuple[str, Callable[..., dict[str, Any]], Callable[..., dict[str, Any]]]]
    kinds = [("double backward", twice, twice), (f"compile, {compiler}", compiled, eager)]
    names = [name for name in FULL_GRAPH if name in (*BACKENDS, "auto")]
    names += [name for name in BACKENDS if name not in FULL_GRAPH]  # compiled last: their graphs are large
    for (what, act, model), backend in product(kinds, names):
        row: Row = {"what": what, "backend": backend}
        if backend in BACKENDS and (spec := refusal(layer(backend, torch.float32), x.float())):
            yield {**row, "error": None, "said": spec, "ok": None}
            continue
        try:
            got = act(layer(backend, torch.float32), x.float(), h0.float())
        except Exception as error:
            must = backend in FULL_GRAPH if act is compiled else backend not in ("cudnn", "auto")
            yield {**row, "error": None, "said": said(error), "ok": False if must else None}
            continue
        worst = max(errors(got, model(layer("reference", torch.float64), x, h0)).values())
        yield {**row, "error": worst, "said": "", "ok": worst < 2e-5}


def refusal(layer: Any, x: Any) -> str:
    """Why the backend that the layer names cannot serve plain calls here; empty if it can."""
    from gatelab.core.backends import BackendError

    try:
        layer(x)
    except BackendError as error:
        return str(error)
    return ""


def twice(layer: Any, x: Any, h0: Any) -> dict[str, Any]:
    """The gradient of the squared gradients."""
    import torch

    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    y, h = layer(x, h0)
    wanted = [x, h0, *layer.parameters()]
    once = torch.autograd.grad((y, h), wanted, weighed(y, h), create_graph=True)
    found = torch.autograd.grad(sum(g.square().sum() for g in once), wanted)
    return {str(number): g for number, g in enumerate(found)}
