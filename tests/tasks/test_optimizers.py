from typing import Any

import pytest
import torch
from torch import nn

from gatelab.tasks import optimizers


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (optimizers.adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
        (optimizers.adamw, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
        (optimizers.sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ],
)
@pytest.mark.parametrize("fused", [None, False])
def test_optimisers_take_the_steps_of_torch(ours: Any, theirs: Any, options: Any, fused: bool | None) -> None:
    ends = []
    for factory, extra in ((ours, {"fused": fused}), (theirs, {})):
        torch.manual_seed(0)
        net = nn.Linear(5, 4, bias=False)
        optimizer = factory(net.parameters(), **options, **extra)
        for _ in range(5):
            optimizer.zero_grad()
            net(torch.randn(8, 5)).square().sum().backward()
            optimizer.step()
        ends.append(net.weight.detach())
    torch.testing.assert_close(ends[0], ends[1])


def test_adamw_decays_matrices_only_unless_asked() -> None:
    net = nn.Linear(5, 4)
    groups = optimizers.adamw(net.parameters(), weight_decay=0.1).param_groups
    assert [(g["weight_decay"], [p.ndim for p in g["params"]]) for g in groups] == [(0.1, [2]), (0.0, [1])]
    groups = optimizers.adamw(net.parameters(), weight_decay=0.1, decay_vectors=True).param_groups
    assert [(g["weight_decay"], len(g["params"])) for g in groups] == [(0.1, 2)]
