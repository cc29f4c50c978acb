"""Recurrent cores that a graph can hold: layers that ONNX has as one operation, or steps written out.

The network is changed in place; what is exported is a copy of the run's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from gatelab.core import GRU, LSTM, RNN
from gatelab.core.baselines import TorchGRU, TorchLSTM, TorchRNN
from gatelab.core.cells import gru_step_after
from gatelab.core.recurrent import Recurrent
from gatelab.core.stack import Stack
from gatelab.core.unroll import State

OF_TORCH: dict[type[nn.Module], type[nn.Module]] = {GRU: TorchGRU, LSTM: TorchLSTM, RNN: TorchRNN}


def use_exportable_core(net: Any, kind: str) -> bool:
    """Give `net` a core that a graph of this kind can hold; whether that leaves time free.

    ONNX knows the layers of torch.nn as one operation, over any number of steps. For any other graph the core is one
    whose steps are written out, for one of torch.nn the from-scratch one.
    """
    core: Any = getattr(net, "core", None)
    if core is None:
        return False
    layers = list(core.layers) if isinstance(core, Stack) else [core]
    free = kind == "onnx" and all(_is_plain(layer) for layer in layers)
    layers = [_as(OF_TORCH if free else {b: a for a, b in OF_TORCH.items()}, layer) for layer in layers]
    for layer in layers:
        if isinstance(layer, GRU):
            layer.backend = "reference"
    if isinstance(core, Stack):
        core.layers = nn.ModuleList(layers)
    else:
        net.core = layers[0]
    return free


class SteppedGRU(GRU):
    """A GRU that is traced step by step: within the one operation that ONNX has for it, nothing is quantised."""

    _run, _run_backward = Recurrent._run, Recurrent._run_backward  # type: ignore[assignment]  # not by a backend

    def _step(self, i: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
        return (gru_step_after(i, state[0], w_hh, b_hh),)


def write_steps_out(net: nn.Module, *, quantised: bool) -> None:
    """Have every recurrent layer of `net` compute step by step in plain operations, all of them if `quantised`."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            layer = _as({b: a for a, b in OF_TORCH.items()}, child)
            if _is_plain(layer):
                layer = _as({GRU: SteppedGRU if quantised else GRU}, layer)
            setattr(module, name, layer)
            if isinstance(layer, GRU):
                layer.backend = "reference"


def _is_plain(layer: Any) -> bool:
    """Whether torch.nn has a layer that does the same."""
    if isinstance(layer, GRU) and not (layer.reset_after and not layer.zoneout and not layer.layer_norm):
        return False
    return type(layer) in (*OF_TORCH, *OF_TORCH.values())


def _as(kinds: Mapping[type[nn.Module], Callable[..., nn.Module]], core: nn.Module) -> nn.Module:
    """The layer that `kinds` has for one like `core`, with its weights; `core` itself if there is none."""
    if type(core) not in kinds:
        return core
    names = ["input_size", "hidden_size", "num_layers", "bias", "bidirectional"]
    names += ["nonlinearity"] if isinstance(core, RNN | TorchRNN) else []
    layer = kinds[type(core)](**{name: getattr(core, name) for name in names})
    layer.load_state_dict(core.state_dict())
    return layer.eval()
