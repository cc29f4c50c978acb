"""The stack around a cell: layers, directions, dropout, initial states, ragged and packed batches.

`Recurrent` gives GRU, LSTM and RNN the constructor, the parameter names, the initial values and the call of
their namesakes in `torch.nn`, so that each loads the other's checkpoints. It does not know any equation: a
subclass says how one layer runs in one direction (`_run`). No state is stored: it comes in and goes out.

What a caller may give as a sequence, unbatched [T, D], batched [T, B, D] or [B, T, D] (`batch_first`), or a
`PackedSequence`, is brought to one form, x [T, B, D], by `enter`; the `Layout` that it returns converts outputs and
states back.

Dimensions: B batch, T time, D input, H hidden, L layers, dirs 1 or 2.
"""

import math
import numbers
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from gatelab.core.backends import BackendError
from gatelab.core.cells import Weights
from gatelab.core.torch_internals import batch_before_time, obstacle
from gatelab.core.unroll import State, padding, reverse, reverse_reset, unroll

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
GAINS = ("gain_ih", "gain_hh")  # of a layer-normalised GRU


class Layout(NamedTuple):
    """How the caller's tensors relate to the inner form, and the way back."""

    batched: bool
    batch_first: bool
    packed: PackedSequence | None = None

    def output(self, y: Tensor, lengths: Tensor | None) -> Tensor | PackedSequence:
        """Return y [T, B, F] in the caller's layout."""
        if self.packed is not None:
            assert lengths is not None
            return PackedSequence(pack_padded_sequence(y, lengths.cpu()).data, *self.packed[1:])
        if not self.batched:
            return y.squeeze(1)
        return batch_before_time(y) if self.batch_first else y

    def state_in(self, state: Tensor) -> Tensor:
        """Bring the caller's state to [L*dirs, B, H] in the inner order of rows."""
        order = None if self.packed is None else self.packed.sorted_indices
        state = state if self.batched else state.unsqueeze(1)
        return state if order is None else state.index_select(1, order)

    def state_out(self, state: Tensor) -> Tensor:
        """The inverse of `state_in`."""
        order = None if self.packed is None else self.packed.unsorted_indices
        state = state if self.batched else state.squeeze(1)
        return state if order is None else state.index_select(1, order)


def enter(
    input: Tensor | PackedSequence,
    input_size: int,
    batch_first: bool,
    lengths: Tensor | Sequence[int] | None,
    reset_mask: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Layout]:
    """Return x [T, B, D], lengths [B] or None, reset_mask [T, B] or None, and the layout of the way back.

    Padding is set to zero, so that whatever it held (NaN included) reaches neither output nor gradient.
    Raises ValueError on shapes that do not fit, TypeError on a dtype that does not.
    """
    if isinstance(input, PackedSequence):
        if lengths is not None or reset_mask is not None:
            raise ValueError(
                "a PackedSequence already holds its lengths: pass lengths= and reset_mask= with padded input"
            )
        _check_size(input.data, input_size)
        x, sizes = pad_packed_sequence(PackedSequence(input.data, input.batch_sizes))
        return x, sizes.to(x.device), None, Layout(True, batch_first, input)
    if input.dim() not in (2, 3):
        raise ValueError(f"input must be 2-D (unbatched) or 3-D (batched), got shape {list(input.shape)}")
    _check_size(input, input_size)
    layout = Layout(input.dim() == 3, batch_first)
    x = input if layout.batched else input.unsqueeze(1)
    x = x.transpose(0, 1) if layout.batched and batch_first else x
    steps, batch = x.shape[:2]
    if steps == 0:
        raise ValueError(f"input has no time steps: shape {list(input.shape)}, batch_first={batch_first}")
    if reset_mask is not None:
        reset_mask = _check_reset(reset_mask, layout, steps, batch)
    if lengths is not None:
        lengths = _check_lengths(lengths, steps, batch, x.device)
        x = x.masked_fill(padding(lengths, steps).unsqueeze(-1), 0)
    return x, lengths, reset_mask, layout


def _check_size(x: Tensor, input_size: int) -> None:
    if x.shape[-1] != input_size:
        raise ValueError(
            f"input.size(-1) must be input_size={input_size}, got {x.shape[-1]} (shape {list(x.shape)})"
        )


def _check_reset(reset_mask: Tensor, layout: Layout, steps: int, batch: int) -> Tensor:
    if reset_mask.dtype != torch.bool:
        raise TypeError(f"reset_mask must be bool, got {reset_mask.dtype}")
    if not layout.batched and reset_mask.dim() == 1:
        reset_mask = reset_mask.unsqueeze(1)
    if reset_mask.shape != (steps, batch):
        raise ValueError(
            f"reset_mask must be [T, B] = [{steps}, {batch}], also with batch_first=True; "
            f"got {list(reset_mask.shape)}"
        )
    return reset_mask


def _check_lengths(lengths: Tensor | Sequence[int], steps: int, batch: int, device: torch.device) -> Tensor:
    lengths = torch.as_tensor(lengths, device=device)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths must be integers, got {lengths.dtype}")
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must be [B] = [{batch}], got {list(lengths.shape)}")
    # compiled or transformed code cannot branch on values: there a backend may check them (native does)
    readable = not torch.compiler.is_compiling() and obstacle(device.type, (lengths,)) is None
    if batch and readable and bool(((lengths < 0) | (lengths > steps)).any()):  # a GPU is waited for once
        raise ValueError(f"lengths must lie in 0 ... T={steps}, got {lengths.tolist()}")
    return lengths.long()


def under_autocast(x: Tensor) -> bool:
    """Whether autocast is on for the device of x; the meta device knows none."""
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


def in_own_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Keep autocast out of what is computed from x."""
    return torch.autocast(x.device.type, enabled=False) if under_autocast(x) else nullcontext()


class Recurrent(nn.Module):
    """Base of the recurrent layers: `layer(x, state, *, lengths, reset_mask) -> (y, state)`."""

    gates: ClassVar[int]
    weight_ih_l0: Tensor
    state_names: ClassVar[tuple[str, ...]] = ("hx",)
    defaults: ClassVar[dict[str, Any]] = {  # of the options that `print` shows
        "num_layers": 1,
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_arguments(input_size, hidden_size, num_layers, dropout)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional = bidirectional
        self.directions = 2 if bidirectional else 1
        self.output_size = self.directions * hidden_size
        names = [name for name in self._parameter_names() if bias or not name.startswith("bias")]
        self._names: list[list[tuple[str | None, ...]]] = []
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else self.output_size
            shapes = {"weight_ih": (rows, width), "weight_hh": (rows, hidden_size)}
            self._names.append(
                [
                    tuple([f"{name}_{suffix}" if name in names else None for name in NAMES + GAINS])
                    for suffix in self._suffixes(layer)
                ]
            )
            for suffix in self._suffixes(layer):
                for name in names:
                    value = torch.empty(shapes.get(name, (rows,)), device=device, dtype=dtype)
                    self.register_parameter(f"{name}_{suffix}", nn.Parameter(value))
        self.reset_parameters()

    def _parameter_names(self) -> tuple[str, ...]:
        """The kinds of parameters of each layer and direction; without `bias` its biases are left out."""
        return NAMES

    def reset_parameters(self) -> None:
        """Draw every parameter from uniform(-1/sqrt(H), 1/sqrt(H)), in the order of `torch.nn`."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Do nothing: the parameters are never copied into one block, so there is nothing to restore."""

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters, one list per layer and direction, as `torch.nn` gives them."""
        return [
            [p for p in self.weights(layer, direction) if isinstance(p, nn.Parameter)]
            for layer in range(self.num_layers)
            for direction in range(self.directions)
        ]

    def weights(self, layer: int, direction: int = 0) -> Weights:
        """The parameters of one layer (0 ... L-1) in one direction (0 forward, 1 reverse)."""
        own = self._parameters  # where a parameter is replaced (parametrize), it is an attribute instead
        names = self._names[layer][direction]
        found = [own[n] if n in own else None if n is None else getattr(self, n, None) for n in names]
        return Weights(*found)  # type: ignore[arg-type]

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        return (f"l{layer}", f"l{layer}_reverse")[: self.directions]

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        lengths: Tensor | Sequence[int] | None = None,
        reset_mask: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """Run the sequence.

        Args:
            input: [T, B, D], [B, T, D] with `batch_first`, [T, D] unbatched, or a PackedSequence.
            hx: initial state [L*dirs, B, H] ([L*dirs, H] unbatched); a pair (h, c) of them for the LSTM; zero
                when missing.
            lengths: [B] steps that count in each row of right-padded input, 0 ... T, in any order; outputs
                past them are zero and the final state is the one at the length.
            reset_mask: [T, B] bool (time first, whatever `batch_first` is); where True the state is zero
                before step t. The reverse direction resets at the same boundaries between steps.

        Returns:
            y in the layout of the input, [T, B, dirs*H], and the final state in the form of `hx`.

        Raises:
            ValueError, TypeError: shapes or dtypes that do not fit, naming the argument.

        All arguments may be positional, because the older ONNX exporter passes them so.

        Under `torch.autocast` the layer runs in the dtype of its weights: a long recurrence in half
        precision loses what it remembers, and the input is converted instead. `GRU` has one exception, on a GPU.
        """
        if isinstance(input, torch.fx.Proxy):
            # symbolic tracing takes the layer whole, as it takes those of torch.nn
            path = input.tracer.path_of_module(self)
            given = (input, hx, lengths, reset_mask)
            return input.tracer.create_proxy("call_module", path, given, {})
        x, lengths, reset_mask, layout = enter(input, self.input_size, self.batch_first, lengths, reset_mask)
        dtype = self.weight_ih_l0.dtype
        if x.dtype != dtype and not under_autocast(x):
            raise TypeError(f"input is {x.dtype} but the weights are {dtype}: convert one of them")
        x = x.to(dtype)
        state = self._initial(x, hx, layout)
        y, state = self._stack(x, state, lengths, reset_mask, layout.packed is not None)
        final = tuple(layout.state_out(s) for s in state)
        return layout.output(y, lengths), final if len(final) > 1 else final[0]

    def _initial(self, x: Tensor, hx: Any, layout: Layout) -> State:
        names = self.state_names
        if hx is None:
            shape = (self.num_layers * self.directions, x.shape[1], self.hidden_size)
            return tuple(x.new_zeros(shape) for _ in names)
        given = hx if isinstance(hx, tuple | list) else (hx,)
        if len(given) != len(names):
            raise ValueError(
                f"the state must be {len(names)} tensor(s) ({', '.join(names)}), got {len(given)}"
            )
        batch = (x.shape[1],) if layout.batched else ()
        expected = (self.num_layers * self.directions, *batch, self.hidden_size)
        states = []
        for name, tensor in zip(names, given, strict=True):
            if tensor.shape != expected:
                raise ValueError(
                    f"{name} must be [num_layers*directions, {'B, ' if batch else ''}hidden_size] = "
                    f"{list(expected)} for this input, got {list(tensor.shape)}"
                )
            if tensor.dtype != x.dtype and not under_autocast(x):
                raise TypeError(
                    f"{name} is {tensor.dtype} but the weights are {x.dtype}: convert one of them"
                )
            states.append(layout.state_in(tensor if tensor.dtype == x.dtype else tensor.to(x.dtype)))
        return tuple(states)

    def _stack(
        self, x: Tensor, state: State, lengths: Tensor | None, reset_mask: Tensor | None, packed: bool
    ) -> tuple[Tensor, State]:
        finals: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self.directions):
                row = layer * self.directions + direction
                initial = tuple([s[row] for s in state])
                weights = self.weights(layer, direction)
                run = self._run_backward if direction else self._run
                y, final = run(x, initial, weights, lengths, reset_mask)
                outputs.append(y)
                finals.append(final)
            x = outputs[0] if self.directions == 1 else torch.cat(outputs, dim=-1)
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = _dropout(x, self.dropout, lengths if packed else None)
        # copied even if it is one: a caller may change or detach a state in place, but not a view
        return x, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _step(self, i: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
        """One step of a cell from i = W_ih x + b_ih [B, G*H], for a layer that runs in the plain loop."""
        raise NotImplementedError

    def _run(
        self, x: Tensor, state: State, weights: Weights, lengths: Tensor | None, reset_mask: Tensor | None
    ) -> tuple[Tensor, State]:
        """Run one layer in one direction, forward in time: x [T, B, D], state of [B, H]."""

        def step(i: Tensor, state: State) -> State:
            return self._step(i, state, weights.w_hh, weights.b_hh)

        with in_own_precision(x):
            projected = F.linear(x, weights.w_ih, weights.b_ih)
            return unroll(step, projected, state, lengths=lengths, reset_mask=reset_mask)

    def _run_backward(
        self, x: Tensor, state: State, weights: Weights, lengths: Tensor | None, reset_mask: Tensor | None
    ) -> tuple[Tensor, State]:
        """Run one layer backward in time, by turning the sequence round before and after `_run`."""
        mask = None if reset_mask is None else reverse_reset(reset_mask, lengths)
        y, final = self._run(reverse(x, lengths), state, weights, lengths, mask)
        return reverse(y, lengths), final

    def __prepare_scriptable__(self) -> nn.Module:
        """The layer of `torch.nn` with these very parameters, which `torch.jit.script` takes in place of this one.

        PyTorch puts it in this layer's place in the model that is scripted. Raises BackendError if there is none.
        """
        own, twin = dict(self.named_parameters()), self._namesake()
        if twin is None or own.keys() != dict(twin.named_parameters()).keys():
            raise BackendError(
                f"{self} cannot serve this call: torch.jit.script runs torch.nn's layer of the same name, which "
                "computes the same with backend='auto' or 'reference', without options of its own and with plain "
                "parameters. "
                "torch.jit.trace and torch.export serve every layer"
            )
        for name, parameter in own.items():
            setattr(twin, name, parameter)
        return twin.train(self.training)

    def _namesake(self) -> nn.RNNBase | None:
        """The layer of `torch.nn` that computes the same, with weights of its own; None if there is none."""
        return None

    def _options(self) -> dict[str, Any]:
        """The arguments of the constructor that a namesake in `torch.nn` takes."""
        names = ("input_size", "hidden_size", *Recurrent.defaults)
        return {name: getattr(self, name) for name in names} | {"device": "meta"}

    def extra_repr(self) -> str:
        """The sizes, and what differs from the defaults, as `torch.nn` prints them."""
        values = {name: getattr(self, name) for name in self.defaults}
        chosen = [f", {name}={value}" for name, value in values.items() if value != self.defaults[name]]
        return f"{self.input_size}, {self.hidden_size}" + "".join(chosen)


def _dropout(x: Tensor, p: float, sizes: Tensor | None) -> Tensor:
    """Dropout on x [T, B, F]; with the sizes of a packed batch it is drawn for the steps that count, as in torch.nn."""
    if sizes is None:
        return F.dropout(x, p)
    packed = pack_padded_sequence(x, sizes.cpu())
    return pad_packed_sequence(PackedSequence(F.dropout(packed.data, p), packed.batch_sizes))[0]


def _check_arguments(input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        if value <= 0:
            raise ValueError(f"{name} must be greater than zero, got {value}")
    if not isinstance(dropout, numbers.Real) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError(f"dropout must be a probability, 0 <= dropout <= 1, got {dropout!r}")
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            f"dropout={dropout} acts between layers and num_layers=1 has no such place: it does nothing",
            stacklevel=4,
        )
