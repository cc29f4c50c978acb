"""A forecaster as a graph of named tensors: the past and what a window has beside it.

Letters: B batch, T look-back, C channels, P horizon, K targets, n parameters of a distribution.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from gatelab.core.series.covariates import Covariates
from gatelab.core.series.outputs import Output
from gatelab.data.specs import SeriesSpec
from gatelab.tasks.contract import GraphInterface


def forecast_graph(spec: SeriesSpec, output: Output, cycle: bool) -> GraphInterface:
    """Scaled past [B, T, C] in, scaled forecast [B, P, K] out, or the parameters [B, P, K, n] of one.

    The further inputs are those of `Covariates` that a panel has, by name, and of a network with a cycle `start`; T is
    then the look-back.
    """
    further = _shapes(spec, cycle)
    size = (output.size,) if output.is_distribution else ()
    return GraphInterface(
        inputs={
            "past": ("batch", spec.lookback if further else "time", len(spec.channels)),
            **{name: ("batch", *shape) for name, shape in further.items()},
        },
        outputs={"forecast": ("batch", spec.horizon, len(spec.targets), *size)},
        steps=spec.lookback,
        usual_steps=spec.lookback,
        pack=(lambda given: Covariates(**dict(zip(further, given, strict=True)))) if further else None,
    )


def forecast_inputs(spec: SeriesSpec, batch: int, steps: int, cycle: bool) -> tuple[Tensor, ...]:
    """Random series [batch, steps, C] and what they have beside them, if anything; steps are then the look-back."""
    generator = torch.Generator().manual_seed(batch * 1000 + steps)
    further = _shapes(spec, cycle)
    past = torch.randn(batch, spec.lookback if further else steps, len(spec.channels), generator=generator)
    return (past, *(_drawn(name, (batch, *shape), spec, generator) for name, shape in further.items()))


def _shapes(spec: SeriesSpec, cycle: bool) -> Mapping[str, tuple[int, ...]]:
    """The fields of `Covariates` that the network reads, each without its batch: `observed` of a panel alone."""
    steps = spec.lookback + spec.horizon
    shapes = {
        "observed": (spec.lookback, len(spec.channels) if spec.series else 0),
        "known": (steps, len(spec.known)),
        "known_codes": (steps, len(spec.known_codes)),
        "static": (len(spec.static),),
        "static_codes": (len(spec.static_codes),),
    }
    found = {name: shape for name, shape in shapes.items() if shape[-1]}
    return {**found, "start": ()} if cycle else found


def _drawn(name: str, shape: tuple[int, ...], spec: SeriesSpec, generator: torch.Generator) -> Tensor:
    if name == "observed":  # a series that begins inside the look-back
        return (torch.arange(shape[1]) >= shape[1] // 3)[None, :, None].expand(shape)
    if name == "start":
        return torch.arange(500_000, 500_000 + shape[0])
    if not name.endswith("_codes"):
        return torch.randn(shape, generator=generator)
    sizes = getattr(spec, name).values()
    return torch.stack([torch.randint(n, shape[:-1], generator=generator) for n in sizes], dim=-1)


class Windowed(nn.Module):
    """A forecaster that an exported graph computes: past [B, Lb, C] -> [B, P, K], or the parameters of `output`."""

    def __init__(self, run: Callable[[Sequence[Tensor]], Sequence[Tensor]], output: Output) -> None:
        super().__init__()
        self.run, self.output = run, output

    def forward(self, past: Tensor) -> Tensor:
        """What the graph says."""
        return self.run((past,))[0]
