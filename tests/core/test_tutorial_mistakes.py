"""Five mistakes that tutorials of a from-scratch GRU make, each written out, and the check that exposes it.

Every check is a property that a recurrent network has whatever its weights are; it passes on this project's
layers and fails on the mistaken ones, which all run without an error and most of which even learn something.
The page about them is in `experiments/001-from-scratch-equals-nn-gru/five-mistakes.md`.

Dimensions: T time, B batch, D input, H hidden.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.cells import GRUCell
from gatelab.core.gru import GRU
from gatelab.core.unroll import unroll

Loss = Callable[[Tensor, Tensor], Tensor]
STEPS, BATCH, WIDTH, HIDDEN = 6, 5, 3, 5  # B = H on purpose: a matrix product of r and h then passes unseen


# 1. one weight matrix shared by both gates


class SharedGateCell(nn.Module):
    """The mistake: `gate` computes r and z alike, so that one opens exactly when the other does."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r = torch.sigmoid(self.gate(torch.cat((x, h), -1)))
        z = torch.sigmoid(self.gate(torch.cat((x, h), -1)))
        n = torch.tanh(self.candidate(torch.cat((x, r * h), -1)))
        return (1 - z) * h + z * n


def check_three_gates_of_weights(cell: nn.Module, biases: int) -> None:
    """A GRU has three times a simple cell's parameters: 3H(D + H + biases)."""
    count = sum(p.numel() for p in cell.parameters())
    assert count == 3 * HIDDEN * (WIDTH + HIDDEN + biases), "two gates share their weights"


def test_shared_gates_are_exposed_by_the_number_of_parameters() -> None:
    check_three_gates_of_weights(GRUCell(WIDTH, HIDDEN), biases=2)
    check_three_gates_of_weights(GRUCell(WIDTH, HIDDEN, reset_after=False), biases=1)
    with pytest.raises(AssertionError, match="share their weights"):
        check_three_gates_of_weights(SharedGateCell(WIDTH, HIDDEN), biases=1)


# 2. matmul(r, h) in the place of the elementwise product


class MatmulCell(GRUCell):
    """The mistake: `torch.matmul(r, h)` mixes the rows of the batch; it raises only when B differs from H."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        assert hx is not None
        w_r, w_z, w_n = self.weight_hh.chunk(3)
        x_r, x_z, x_n = F.linear(input, self.weight_ih, self.bias_ih).chunk(3, -1)
        r, z = torch.sigmoid(x_r + hx @ w_r.T), torch.sigmoid(x_z + hx @ w_z.T)
        n = torch.tanh(x_n + torch.matmul(r, hx) @ w_n.T)
        return (1 - z) * hx + z * n


def check_rows_are_independent(run: Callable[[Tensor], Tensor], rows: Tensor) -> None:
    """What the last row of the batch gives does not change when the others do; `rows` is [B, ...]."""
    other = rows.clone()
    other[:-1] = torch.randn_like(rows[:-1])
    torch.testing.assert_close(run(other)[-1], run(rows)[-1], msg="rows of the batch see each other")


def test_matmul_of_reset_gate_and_state_is_exposed_by_the_independence_of_rows() -> None:
    x = torch.randn(BATCH, WIDTH)
    for cell in (GRUCell(WIDTH, HIDDEN), GRUCell(WIDTH, HIDDEN, reset_after=False)):
        check_rows_are_independent(lambda h, cell=cell: cell(x, h), torch.randn(BATCH, HIDDEN))
    mistaken = MatmulCell(WIDTH, HIDDEN, reset_after=False)
    with pytest.raises(AssertionError, match="see each other"):
        check_rows_are_independent(lambda h: mistaken(x, h), torch.randn(BATCH, HIDDEN))


# 3. the network is built from a library's LSTM cell after a GRU cell was defined


class Network(nn.Module):
    """A GRU cell is defined and used, the output is read from the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = GRUCell(WIDTH, HIDDEN)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], HIDDEN)
        for x_t in x:
            h = self.gru(x_t, h)
        return self.head(h)


class NetworkWithLSTM(Network):
    """The mistake: the GRU cell stands there, and the loop runs `nn.LSTMCell`."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTMCell(WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[1], HIDDEN)
        for x_t in x:
            h, c = self.rnn(x_t, (h, c))
        return self.head(h)


def check_every_parameter_is_used(network: nn.Module, loss: Tensor) -> None:
    """Every parameter of the network gets a gradient that is not zero."""
    network.zero_grad()
    if loss.requires_grad:
        loss.backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unused, f"no gradient reaches {', '.join(unused)}"


def test_a_network_that_runs_another_cell_is_exposed_by_the_gradients() -> None:
    x = torch.randn(STEPS, BATCH, WIDTH)
    right, mistaken = Network(), NetworkWithLSTM()
    check_every_parameter_is_used(right, right(x).square().sum())
    with pytest.raises(AssertionError, match=r"no gradient reaches gru\.weight_ih"):
        check_every_parameter_is_used(mistaken, mistaken(x).square().sum())


# 4. a loss that subtracts a tensor from itself


def self_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """The mistake: a misnamed variable. The loss is zero from the first step on and looks like success."""
    return (prediction - prediction).square().mean()


def check_the_loss_sees_the_target(loss: Loss) -> None:
    """A loss is zero for the target itself, and not for anything else."""
    target = torch.randn(BATCH, 1)
    assert loss(target, target) == 0
    assert loss(target + 1, target) > 0, "the loss does not see the target"


def test_a_loss_of_a_tensor_with_itself_is_exposed_by_another_target() -> None:
    check_the_loss_sees_the_target(F.mse_loss)
    with pytest.raises(AssertionError, match="does not see the target"):
        check_the_loss_sees_the_target(self_loss)
    network, x = Network(), torch.randn(STEPS, BATCH, WIDTH)
    check_every_parameter_is_used(network, F.mse_loss(network(x), torch.randn(BATCH, 1)))
    with pytest.raises(AssertionError, match="no gradient reaches"):
        check_every_parameter_is_used(network, self_loss(network(x), torch.randn(BATCH, 1)))


# 5. a time axis missing from the input


def check_the_past_is_remembered(run: Callable[[Tensor], Tensor]) -> None:
    """The last output depends on the first step, and a row's output on no other row; input [B, T, D]."""
    x = torch.randn(BATCH, STEPS, WIDTH)
    check_rows_are_independent(run, x)
    other = x.clone()
    other[:, 0] += 1
    assert not torch.equal(run(other), run(x)), "the past is not remembered"


def test_a_missing_time_axis_is_exposed_by_rows_and_by_memory() -> None:
    layer = GRU(WIDTH, HIDDEN, batch_first=True)
    check_the_past_is_remembered(lambda x: layer(x)[0][:, -1])
    # the last step of each row, [B, D]: the layer takes it for one sequence of B steps, without an error
    with pytest.raises(AssertionError, match="see each other"):
        check_the_past_is_remembered(lambda x: layer(x[:, -1])[0])
    # an axis of length one put in afterwards: rows are apart again, but there is nothing to remember
    with pytest.raises(AssertionError, match="not remembered"):
        check_the_past_is_remembered(lambda x: layer(x[:, -1:])[0][:, -1])


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_layers_of_this_project_pass_all_checks(reset_after: bool) -> None:
    layer = GRU(WIDTH, HIDDEN, 2, batch_first=True, reset_after=reset_after)
    head = nn.Linear(HIDDEN, 1)
    network: Any = nn.ModuleList([layer, head])
    x = torch.randn(BATCH, STEPS, WIDTH)
    check_rows_are_independent(lambda rows: layer(rows)[0], x)
    check_the_past_is_remembered(lambda rows: layer(rows)[0][:, -1])
    check_every_parameter_is_used(network, F.mse_loss(head(layer(x)[0][:, -1]), torch.randn(BATCH, 1)))
    cell = GRUCell(WIDTH, HIDDEN, reset_after=reset_after)
    y, (h,) = unroll(lambda i, s: (cell(i, s[0]),), x.transpose(0, 1), (torch.zeros(BATCH, HIDDEN),))
    assert torch.equal(y[-1], h)
