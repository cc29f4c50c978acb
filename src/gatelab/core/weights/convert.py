"""Weights between this project's GRU, `torch.nn.GRU` and Keras' GRU, and the names of awd-lstm-lm.

Between `GRU(reset_after=True)` and `torch.nn.GRU` nothing changes: same names, same shapes, same function, so
`load_state_dict` is enough and the two functions here are a convenience. Keras stores transposed matrices
(kernel [D, 3H], recurrent_kernel [H, 3H]) with the gates in the order (z, r, h), and its z keeps the old
state in both
variants: for `reset_after=False` the z rows are therefore negated (see `cells.py`).

It converts tensors; it reads no files and needs no Keras. Dimensions: D input, H hidden.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gatelab.core.backends import BackendName
from gatelab.core.gru import GRU


def from_torch(module: nn.GRU, *, backend: BackendName = "auto") -> GRU:
    """A `GRU` with a copy of the weights, the options, the device, the dtype and the mode of a `torch.nn.GRU`."""
    ours = GRU(**_options(module), backend=backend)
    ours.load_state_dict(module.state_dict())
    return ours.train(module.training)


def to_torch(module: GRU) -> nn.GRU:
    """The inverse of `from_torch`. Raises ValueError for what `torch.nn.GRU` has not: `reset_after=False`,
    layer normalisation, zoneout.
    """
    _refuse_extras(module, "torch.nn.GRU")
    if not module.reset_after:
        raise ValueError(
            "torch.nn.GRU has only the variant reset_after=True; weights cannot make up for that"
        )
    theirs = nn.GRU(**_options(module))
    theirs.load_state_dict(module.state_dict())
    return theirs.train(module.training)


def _refuse_extras(module: GRU, target: str) -> None:
    if module.layer_norm:
        raise ValueError(
            f"{target} has no layer normalisation, and no weights make up for that: only a GRU with "
            "layer_norm=False can be converted"
        )
    if module.zoneout:
        raise ValueError(
            f"{target} has no zoneout, which acts in evaluation too (there each state is averaged with the one "
            "before it): set module.zoneout = 0.0 first if it is to be dropped"
        )


def _options(module: nn.GRU | GRU) -> dict[str, Any]:
    weight = module.weight_ih_l0
    assert isinstance(weight, Tensor)
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
    options = {name: getattr(module, name) for name in names}
    return {**options, "device": weight.device, "dtype": weight.dtype}


class KerasWeights(NamedTuple):
    """What `keras.layers.GRU.get_weights()` returns, as tensors.

    kernel [D, 3H], recurrent_kernel [H, 3H], gates in the order (z, r, h); bias [2, 3H] (input, recurrent)
    with `reset_after=True`, [3H] with `reset_after=False`, None with `use_bias=False`.
    """

    kernel: Tensor
    recurrent_kernel: Tensor
    bias: Tensor | None


def to_keras(module: GRU, layer: int = 0, direction: int = 0) -> KerasWeights:
    """The weights of one layer (0 ... L-1) in one direction (0 forward, 1 reverse), in Keras' layout.

    Raises ValueError for layer normalisation and zoneout, which Keras' GRU has not.
    """
    _refuse_extras(module, "keras.layers.GRU")
    w_ih, w_hh, b_ih, b_hh = (
        None if w is None else _to_zrh(w.detach(), not module.reset_after)
        for w in module.weights(layer, direction)[:4]
    )
    assert w_ih is not None
    assert w_hh is not None
    bias = b_ih
    if b_ih is not None and b_hh is not None:
        bias = torch.stack((b_ih, b_hh))
    return KerasWeights(w_ih.t().contiguous(), w_hh.t().contiguous(), bias)


def from_keras(weights: Sequence[Any], *, reset_after: bool, batch_first: bool = True) -> GRU:
    """A one-layer `GRU` from the arrays of `keras.layers.GRU.get_weights()`.

    Args:
        weights: kernel [D, 3H], recurrent_kernel [H, 3H] and, unless the layer had `use_bias=False`, bias
        [2, 3H] or
            [3H]; tensors, or anything that `torch.as_tensor` takes.
        reset_after: as in the Keras layer; its default is True. The shapes of the kernels do not tell.
        batch_first: Keras is batch-first, so this is the default here.

    Raises ValueError on shapes that do not belong to such a layer.
    """
    if len(weights) not in (2, 3):
        raise ValueError(
            f"weights must be [kernel, recurrent_kernel, bias] or without bias, got {len(weights)}"
        )
    kernel, recurrent, *rest = (torch.as_tensor(w) for w in weights if w is not None)
    hidden = recurrent.shape[0] if recurrent.dim() else 0
    if recurrent.shape != (hidden, 3 * hidden):
        raise ValueError(f"recurrent_kernel must be [H, 3H], got {list(recurrent.shape)}")
    if kernel.dim() != 2 or kernel.shape[1] != 3 * hidden:
        raise ValueError(f"kernel must be [D, 3H] = [D, {3 * hidden}], got {list(kernel.shape)}")
    values = {"weight_ih_l0": kernel.t(), "weight_hh_l0": recurrent.t()}
    if rest:
        expected = (2, 3 * hidden) if reset_after else (3 * hidden,)
        if rest[0].shape != expected:
            raise ValueError(
                f"bias must be {list(expected)} with reset_after={reset_after}, got {list(rest[0].shape)}"
            )
        biases = rest[0] if reset_after else rest[0].unsqueeze(0)
        values |= dict(zip(("bias_ih_l0", "bias_hh_l0"), biases, strict=False))
    module = GRU(
        kernel.shape[0],
        hidden,
        bias=bool(rest),
        batch_first=batch_first,
        device=kernel.device,
        dtype=kernel.dtype,
        reset_after=reset_after,
    )
    module.load_state_dict({name: _to_rzn(value, not reset_after) for name, value in values.items()})
    return module


BARE = re.compile(r"(weight|bias|gain)_(ih|hh)_l\d+(_reverse)?$")
AWD = re.compile(r"rnns\.(\d+)\.(?:module\.)?(\w+)_l0(_raw)?$")
AWD_NAMES = {
    "encoder.weight": "embedding.weight",
    "decoder.weight": "head.weight",
    "decoder.bias": "head.bias",
}


def with_own_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names that they have in a network of this project.

    It reads those of a task (`net.` before each name), of a bare layer of torch.nn, and of awd-lstm-lm (Merity et al.
    2018, github.com/salesforce/awd-lstm-lm): `encoder`, `rnns.N.module.weight_hh_l0_raw` and `decoder`, whose GRU and
    LSTM are torch.nn's. Other names stay.
    """
    if all(name.startswith("net.") for name in weights):
        return {name.removeprefix("net."): tensor for name, tensor in weights.items()}
    if all(map(BARE.match, weights)):
        return {f"core.{name}": tensor for name, tensor in weights.items()}
    if not any(map(AWD.match, weights)):
        return dict(weights)
    found = {}
    # a raw matrix comes last, and takes the place of what was dropped of it
    for name in sorted(weights, key=lambda name: name.endswith("_raw")):
        layer = AWD.match(name)
        own = f"core.{layer[2]}_l{layer[1]}" if layer else AWD_NAMES.get(name, name)
        found[own] = weights[name]
    return found


def _to_zrh(value: Tensor, flip: bool) -> Tensor:
    """Rows (r, z, n) in Keras' order (z, r, h), z negated where the two meanings of z differ."""
    r, z, n = value.chunk(3)
    return torch.cat((-z if flip else z, r, n))


def _to_rzn(value: Tensor, flip: bool) -> Tensor:
    """The inverse of `_to_zrh`."""
    z, r, n = value.chunk(3)
    return torch.cat((r, -z if flip else z, n))
