"""One step of each recurrent cell: the equations, with the papers' letters in the code.

This file is the oracle that every faster backend is compared with. It knows nothing of time, layers or
batches in another order; the loop over time is in `unroll.py`, the drop-in layers are in `gru.py`
and `baselines.py`.

Dimensions: B batch, D input, H hidden. A step takes the input's contribution `i = W_ih x + b_ih`
([B, G*H], G gates) instead of x itself, because that product does not depend on the state and is done for
all time steps in one matrix product. Rows of the weights are grouped by gate in PyTorch's order: (r, z, n)
for the GRU, (i, f, g, o) for the LSTM.

Two GRUs, and which way z points. Papers disagree about what an open update gate means:

* `reset_after=True` is `torch.nn.GRU`, cuDNN and Keras' default. z = 1 KEEPS the old state:
  h' = z h + (1 - z) n, as in equation (7) of Cho et al. 2014 (arXiv:1406.1078). The reset gate scales
  W_hn h + b_hn, after the product.
* `reset_after=False` is the form of Chung et al. 2014 (arXiv:1412.3555). z = 1 REPLACES the old state:
  h' = (1 - z) h + z n. The reset gate scales h before the product, as in Cho et al. 2014, so this variant
  has one bias per gate and no `bias_hh`.

Because 1 - sigmoid(a) = sigmoid(-a), weights that come from a source with the other meaning of z are
converted exactly by negating the z rows of the weights and of the bias; `weights/convert.py` does that. The place
of the reset gate is a different function, not a convention: no conversion of weights removes it.

Two things may be added to a GRU's step. Neither changes the other:

* Layer normalisation (Ba, Kiros and Hinton 2016, arXiv:1607.06450, section 3 and supplement): every product
  W_ix x and W_hx h of a gate, a vector a of H numbers, is replaced by

      LN(a) = g * (a - mean(a)) / sqrt(var(a) + 1e-5),   mean and var = mean((a - mean(a))^2) over its H units,

  before the bias is added, so that the biases of the GRU are those of the normalisation. Each gate is normalised
  by itself (the paper's supplement takes r and z together), input and state apart; the gains g are rows
  (r, z, n) of `g_ih` and `g_hh` [3H]. With `reset_after=False` n's second product is W_hn (r * h).
* Zoneout (Krueger et al. 2017, arXiv:1606.01305): see `zone_out`.
"""

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Nonlinearity = Literal["tanh", "relu"]
EPSILON = 1e-5  # of the layer normalisation, as in `torch.nn.LayerNorm`


class Weights(NamedTuple):
    """The parameters of one layer in one direction; a missing one is None."""

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    g_ih: Tensor | None = None
    g_hh: Tensor | None = None


def normalize(a: Tensor, hidden: int) -> Tensor:
    """Each gate's H numbers in a [*, G*H] brought to mean 0 and variance 1, as LN above without the gain."""
    hidden = int(hidden)  # while a graph is traced a size is a tensor, and ONNX's layer_norm wants a constant
    blocks = a.unflatten(-1, (-1, hidden))
    return F.layer_norm(blocks, (hidden,), eps=EPSILON).flatten(-2)


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, gain: Tensor | None = None, hidden: int = 0
) -> Tensor:
    """W x + b [*, G*H], or LN(W x) + b with a gain [G*H]; G gates of `hidden` units each."""
    if gain is None:
        return F.linear(x, weight, bias)
    a = normalize(F.linear(x, weight), hidden) * gain
    return a if bias is None else a + bias


def zone_out(new: Tensor, old: Tensor, kept: Tensor | float) -> Tensor:
    """Zoneout of a state: h'' = m * h + (1 - m) * h', element by element.

    In training m is drawn, 1 with probability p: that unit keeps its old state. In evaluation it is p itself,
    so that h'' is what training gives on average. `kept` is the drawn m [B, H] as bool, or p.
    """
    if isinstance(kept, Tensor):
        return torch.where(kept, old, new)
    return kept * old + (1 - kept) * new


def gru_step_after(
    i: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None, g_hh: Tensor | None = None
) -> Tensor:
    """One GRU step with the reset gate after the product (cuDNN, `torch.nn.GRU`).

        r  = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z  = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n  = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h

    With a gain g_hh [3H] the products W_hr h, W_hz h and W_hn h are normalised, see the top of the file.

    Shapes: i [B, 3H] = W_ih x + b_ih, h [B, H], w_hh [3H, H], b_hh [3H]; returns h' [B, H].
    """
    i_r, i_z, i_n = i.chunk(3, dim=-1)
    h_r, h_z, h_n = linear(h, w_hh, b_hh, g_hh, h.shape[-1]).chunk(3, dim=-1)
    r = torch.sigmoid(i_r + h_r)
    z = torch.sigmoid(i_z + h_z)
    n = torch.tanh(i_n + r * h_n)
    return (1 - z) * n + z * h


def gru_step_before(
    i: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None = None, g_hh: Tensor | None = None
) -> Tensor:
    """One GRU step with the reset gate before the product (Cho et al. 2014, z as in Chung et al. 2014).

        r  = sigmoid(W_ir x + W_hr h + b_r)
        z  = sigmoid(W_iz x + W_hz h + b_z)
        n  = tanh(W_in x + W_hn (r * h) + b_n)
        h' = (1 - z) * h + z * n

    With a gain g_hh [3H] the products W_hr h, W_hz h and W_hn (r * h) are normalised, see the top of the file.

    Shapes: i [B, 3H] = W_ih x + b, h [B, H], w_hh [3H, H]; returns h' [B, H]. There is no second bias:
    it would add to the first, so `b_hh` must be None (the argument keeps the two steps' signatures equal).
    """
    if b_hh is not None:
        raise ValueError("reset_after=False has one bias per gate: b_hh must be None, add it to b_ih")
    hidden = h.shape[-1]
    i_r, i_z, i_n = i.chunk(3, dim=-1)
    w_hr, w_hz, w_hn = w_hh.split(hidden)
    g_hr, g_hz, g_hn = (None, None, None) if g_hh is None else g_hh.split(hidden)
    r = torch.sigmoid(i_r + linear(h, w_hr, None, g_hr, hidden))
    z = torch.sigmoid(i_z + linear(h, w_hz, None, g_hz, hidden))
    n = torch.tanh(i_n + linear(r * h, w_hn, None, g_hn, hidden))
    return (1 - z) * h + z * n


def lstm_step(
    gates: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One LSTM step (Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000).

        i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)    f = sigmoid(W_if x + b_if + W_hf h + b_hf)
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)       o = sigmoid(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g
        h' = o * tanh(c')

    Shapes: gates [B, 4H] = W_ih x + b_ih, h and c [B, H], w_hh [4H, H], b_hh [4H]; returns (h', c').
    """
    i, f, g, o = (gates + F.linear(h, w_hh, b_hh)).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def rnn_step(
    i: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None, nonlinearity: Nonlinearity = "tanh"
) -> Tensor:
    """One step of the simple recurrent network (Elman 1990): h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Shapes: i [B, H] = W_ih x + b_ih, h [B, H], w_hh [H, H], b_hh [H]; returns h' [B, H].
    """
    a = i + F.linear(h, w_hh, b_hh)
    return torch.relu(a) if nonlinearity == "relu" else torch.tanh(a)


class _Cell(nn.Module):
    """The parameters of one cell, with the names, shapes and initial values of `torch.nn`'s cells."""

    gates: ClassVar[int]
    second_bias = True
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.gates * hidden_size

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))

        self.weight_ih = parameter(rows, input_size)
        self.weight_hh = parameter(rows, hidden_size)
        self.register_parameter("bias_ih", parameter(rows) if bias else None)
        self.register_parameter("bias_hh", parameter(rows) if bias and self.second_bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from uniform(-1/sqrt(H), 1/sqrt(H)), as `torch.nn` does."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def _project(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.input_size or x.dim() not in (1, 2):
            raise ValueError(
                f"input must be [B, {self.input_size}] or [{self.input_size}], got {list(x.shape)}"
            )
        return F.linear(x, self.weight_ih, self.bias_ih)

    def _state(self, x: Tensor, h: Tensor | None, name: str = "hx") -> Tensor:
        shape = (*x.shape[:-1], self.hidden_size)
        if h is None:
            return x.new_zeros(shape)
        if h.shape != shape:
            raise ValueError(f"{name} must be {list(shape)} for this input, got {list(h.shape)}")
        return h

    def extra_repr(self) -> str:
        """The sizes, as `torch.nn` prints them."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class GRUCell(_Cell):
    """A GRU step as a module: drop-in for `torch.nn.GRUCell`, with `reset_after=False` as well.

    `cell(x [B, D], h [B, H] | None) -> h' [B, H]`; x [D] and h [H] without a batch work too.
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
    ) -> None:
        self.reset_after = self.second_bias = reset_after  # before the parameters, which depend on it
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return h' [B, H]; a missing `hx` is zero. Raises ValueError on shapes that do not fit."""
        step = gru_step_after if self.reset_after else gru_step_before
        return step(self._project(input), self._state(input, hx), self.weight_hh, self.bias_hh)


class LSTMCell(_Cell):
    """An LSTM step as a module: drop-in for `torch.nn.LSTMCell`; `cell(x, (h, c)) -> (h', c')`."""

    gates = 4

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return (h', c'), each [B, H]; missing states are zero."""
        h, c = hx if hx is not None else (None, None)
        h, c = self._state(input, h, "h"), self._state(input, c, "c")
        return lstm_step(self._project(input), h, c, self.weight_hh, self.bias_hh)


class RNNCell(_Cell):
    """A simple recurrent step as a module: drop-in for `torch.nn.RNNCell`; `cell(x, h) -> h'`."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Nonlinearity = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return h' [B, H]; a missing `hx` is zero."""
        h = self._state(input, hx)
        return rnn_step(self._project(input), h, self.weight_hh, self.bias_hh, self.nonlinearity)
