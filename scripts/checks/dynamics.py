"""Train two small GRUs whose dynamics are known from elsewhere, and compare what `gatelab.core.dynamics` finds in them.

* flip-flop: three inputs, each a rare pulse of +1 or -1; each output holds the sign of its last pulse. A network that
  does it has a stable fixed point at every corner of a cube, and between them saddles: on the 12 edges, the 6 faces and
  in the middle, 27 points in all (Sussillo and Barak 2013, section 4).
* lorenz: the network learns one step of the Lorenz system (sigma 10, rho 28, beta 8/3) and is then fed its own output.
  The system's largest exponent is .906 a unit of time, its Kaplan-Yorke dimension 2.06 (Sprott 2003, appendix A).

examples:
  python -m scripts.checks.dynamics                # both, with a table
  python -m scripts.checks.dynamics --only lorenz
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from gatelab.core import GRU
from gatelab.core.dynamics import Cell, Map, cells, fixed_points, kaplan_yorke, lyapunov_exponents, repeat
from scripts.harness import parser

Row = tuple[str, str, str, bool]
"""What was measured, what is known, what was found, whether it is within the bound."""
SPREAD = torch.tensor([7.92, 9.01, 8.62])  # standard deviations of x, y, z on the attractor
MIDDLE = torch.tensor([0.0, 0.0, 23.55])
STEP = 0.02  # units of time from one sample to the next


# the flip-flop


def pulses(steps: int, batch: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and targets [T, B, 3]; a channel pulses at one step in ten, and all of them at the first."""
    there = torch.rand(steps, batch, 3, generator=draw) < 0.1
    there[0] = True
    signs = torch.randint(0, 2, (steps, batch, 3), generator=draw) * 2.0 - 1
    x, held = signs * there, []
    last = torch.zeros(batch, 3)
    for now in x:
        last = torch.where(now != 0, now, last)
        held.append(last)
    return x, torch.stack(held)


def train(
    core: GRU,
    head: nn.Linear,
    batch: Callable[[], tuple[Tensor, Tensor]],
    steps: int,
    begin: Callable[[], Tensor | None] = lambda: None,
) -> float:
    """Train by Adam with a cosine; return the mean squared error of the last hundredth of the steps.

    begin: the state before a window; None: zero.
    """
    parameters = [*core.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    errors = []
    for _ in range(steps):
        x, y = batch()
        loss = (head(core(x, begin())[0]) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        errors.append(loss.item())
    last = errors[-max(1, steps // 100) :]
    return sum(last) / len(last)


def flip_flop(hidden: int = 16, steps: int = 3000, seed: int = 0) -> list[Row]:
    """Train the flip-flop and look for the fixed points of its cell without input."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    core, head = GRU(3, hidden), nn.Linear(hidden, 3)
    error = train(core, head, lambda: pulses(64, 64, draw), steps)
    with torch.no_grad():
        visited = core(pulses(100, 200, draw)[0])[0].flatten(0, 1).double()
    mixed = visited[torch.randint(len(visited), (4000, 4), generator=draw)]
    weights = torch.rand(4000, 4, 1, generator=draw, dtype=torch.float64)
    starts = torch.cat((visited[:2000], (mixed * weights / weights.sum(1, keepdim=True)).sum(1)))
    (cell,) = cells(core)
    found = fixed_points(cell.under(torch.zeros(3)), starts)
    seen = head.double()(found.points).detach()
    stable = seen[found.unstable == 0]
    corners = torch.tensor(list(product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    distance = torch.cdist(corners, stable).amin(1) if len(stable) else torch.full((8,), torch.inf)
    near = int((distance <= 0.05).sum())
    kinds = [int((found.unstable == k).sum()) for k in range(4)]
    print(
        f"flip-flop: H={hidden}, mean squared error {error:.2g}; farthest corner {float(distance.max()):.4f}"
    )
    return [
        (
            "flip-flop: stable points within .05 of a corner",
            "8 of 8",
            f"{near} of {kinds[0]}",
            near == kinds[0] == 8,
        ),
        (
            "flip-flop: points by directions that lead away",
            "8 12 6 1",
            " ".join(map(str, kinds)),
            kinds == [8, 12, 6, 1],
        ),
        ("flip-flop: fixed points", "27", str(len(found.points)), len(found.points) == 27),
    ]


# the Lorenz system


def lorenz(points: Tensor, steps: int = 1) -> Tensor:
    """The points [..., 3] a `STEP` later each time, [steps, ..., 3], by Runge-Kutta 4 in eight parts, scaled."""

    def slope(p: Tensor) -> Tensor:
        x, y, z = (p * SPREAD.to(p) + MIDDLE.to(p)).unbind(-1)
        return torch.stack((10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z), dim=-1) / SPREAD.to(p)

    h, walked = STEP / 8, []
    for _ in range(steps):
        for _ in range(8):
            a = slope(points)
            b = slope(points + h / 2 * a)
            c = slope(points + h / 2 * b)
            points = points + h / 6 * (a + 2 * b + 2 * c + slope(points + h * c))
        walked.append(points)
    return torch.stack(walked)


def fed_back(cell: Cell, head: nn.Linear) -> Map:
    """The map of (h, x) where the network's output, the change of x, makes its next input."""
    head = head.double().requires_grad_(False)

    def f(s: Tensor) -> Tensor:
        h, x = s[:, : cell.state_size], s[:, cell.state_size :]
        h = cell.step(x, h)
        return torch.cat((h, x + head(h)), dim=-1)

    return f


def lorenz_exponents(hidden: int = 64, steps: int = 12000, seed: int = 0) -> list[Row]:
    """Train one step of the Lorenz system; measure the exponents of the network that runs by itself.

    All of the system's state is read, so that nothing has to be remembered. Windows of four steps begin at random
    states: a network that learns to forget them has no slow directions of its own beside the system's three.
    """
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    begin = torch.randn(256, 3, generator=draw, dtype=torch.float64)
    path = lorenz(lorenz(begin, 500)[-1], 1000).float()  # [T, 256, 3]
    core, head = GRU(3, hidden), nn.Linear(hidden, 3)

    def batch() -> tuple[Tensor, Tensor]:
        at = int(torch.randint(len(path) - 5, (1,), generator=draw))
        window = path[at : at + 5]
        return window[:-1], (window[1:] - window[:-1]) / CHANGE

    def anywhere() -> Tensor:
        return torch.rand(1, path.shape[1], hidden, generator=draw) * 2 - 1

    error = train(core, head, batch, steps, anywhere)
    with torch.no_grad():
        head.weight *= CHANGE
        head.bias *= CHANGE
    (cell,) = cells(core)
    f = fed_back(cell, head)
    h = core(path[:8])[0][-1].detach()
    starts = torch.cat((h, path[7]), dim=-1)[:32]
    exponents = lyapunov_exponents(repeat(f, 6000), starts, 6, skipped=500).mean(0) / STEP
    exponents = exponents.detach()
    largest, dimension = float(exponents[0]), kaplan_yorke(exponents)
    print(
        f"lorenz: H={hidden}, relative error {error:.2g}; exponents {[round(float(e), 3) for e in exponents]}"
    )
    return [
        ("lorenz: largest exponent", ".906 +- 5 %", f"{largest:.3f}", abs(largest / 0.906 - 1) <= 0.05),
        ("lorenz: Kaplan-Yorke dimension", "2.06 +- .1", f"{dimension:.3f}", abs(dimension - 2.06) <= 0.1),
    ]


CHANGE = 0.15
"""About the standard deviation of a step's change, so that what is learnt is of size 1."""


def main() -> int:
    """Run the checks; 1 if a figure is out of its bound."""
    options = parser(__doc__)
    options.add_argument("--only", choices=["flip-flop", "lorenz"], help="one of the two")
    options.add_argument("--seed", type=int, default=0, help="of weights and data (default: 0)")
    given = options.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name, check in (("flip-flop", flip_flop), ("lorenz", lorenz_exponents)):
        if given.only in (None, name):
            begin = time.process_time()
            rows += check(seed=given.seed)
            print(f"{name}: {time.process_time() - begin:.0f} s of CPU")
    print("\n| measured | known | found | |\n|---|---|---|---|")
    for measured, known, found, fine in rows:
        print(f"| {measured} | {known} | {found} | {'within' if fine else 'OUTSIDE'} |")
    return 0 if all(fine for *_, fine in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
