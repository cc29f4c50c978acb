"""Other ways to score a language model than the static one: each a row of its own, marked as what it is.

Every row reads the split as one stream in order, from the seed token on, and scores the tokens that the static figure
counts, each once. Whatever is not given is tuned on the validation split over a small grid and then applied; nothing
is ever tuned on test. The mathematics is in `gatelab.core`: `neural_cache`, `dynamic_evaluation`, `stream_scoring`.
"""

import copy
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from gatelab.core.text.dynamic_evaluation import dynamic_nll, gradient_scale
from gatelab.core.text.head import IGNORE, token_nll
from gatelab.core.text.neural_cache import NeuralCache, mixed
from gatelab.core.text.stream_scoring import chunks, monte_carlo_nll, tempered_nll
from gatelab.data.messages import Progress
from gatelab.tasks.contract import Method, Option

METHODS: Mapping[str, Method] = {
    "dynamic": Method(
        "dynamic evaluation",
        "The weights follow the text: each segment is scored, then its gradient moves them, and a decay pulls them "
        "back to the trained ones (Krause et al. 2018, arXiv:1709.07432).",
        {
            "rule": Option(("rms",), str, choices=("rms", "sgd")),
            "segment": Option((20,), int, 1),
            "rate": Option((1e-4, 3e-4, 1e-3)),
            "decay": Option((0.002, 0.02), most=1.0),
            "epsilon": Option((3.0,), above=True),
            "windows": Option((100,), int, 1),
            "tune_tokens": Option((20_000,), int, 1),
        },
    ),
    "cache": Method(
        "neural cache",
        "What was read a short while ago is likely again: the model's probabilities mixed with those of a cache of "
        "its last states (Grave et al. 2017, arXiv:1612.04426).",
        {
            "window": Option((100, 500, 2000), int, 1),
            "theta": Option((0.03, 0.1, 0.3, 0.6, 1.0)),
            "lambda": Option((0.02, 0.05, 0.1, 0.2, 0.3), most=0.999),
        },
    ),
    "temperature": Method(
        "softmax temperature",
        "The logits divided by one number that is tuned on the validation split (Melis et al. 2020, "
        "arXiv:1909.01792).",
        {"tau": Option((0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2), above=True)},
    ),
    "mc-dropout": Method(
        "MC dropout",
        "The mean of the probabilities of several passes with dropout left on (Gal and Ghahramani 2016, "
        "arXiv:1512.05287).",
        {
            "passes": Option((10,), int, 1),
            "window": Option((35,), int, 1),
            "seed": Option((0,), int),
        },
    ),
}
CHUNK_ELEMENTS, LONGEST_CHUNK = 1 << 20, 1024
"""Logits held at once, and the most steps of a chunk."""
Point = Mapping[str, Any]


class Found(NamedTuple):
    """Summed NLL (nats) of a split's tokens; with what, and how that was found (`ScoredRow`)."""

    nll: float
    tokens: int
    parameters: dict[str, Any]
    tuned: dict[str, Any] | None


class Scorer(ABC):
    """One method on one network and its data."""

    method: ClassVar[str]
    together: ClassVar[bool] = False
    """Whether one pass over the text scores a whole grid."""

    def __init__(self, net: Any, data: Any, progress: Progress) -> None:
        self.net, self.data, self.progress = net, data, progress
        self.device = next(net.parameters()).device

    @abstractmethod
    def score(
        self, inputs: Tensor, targets: Tensor, points: Sequence[Point], tick: Callable[[int], None]
    ) -> list[float]:
        """Summed NLL of targets [N] after inputs [N], for each point."""

    def prepare(self, points: Sequence[Point]) -> None:
        """Make ready for the points, or refuse them with a ValueError."""
        return

    def tuning_tokens(self, points: Sequence[Point]) -> int | None:
        """How many of the validation split's tokens the tuning reads; None: all."""
        return None

    def measure(self, split: str, points: Sequence[Point], limit: int | None) -> tuple[list[float], int]:
        """Summed NLL of a split, or of its first `limit` tokens, for each point; and the tokens."""
        inputs, targets = self.stream(split, limit)
        todo = len(targets) * (1 if self.together else sum(self.passes(point) for point in points))
        tick = self.progress(f"{self.method}, {split}", todo)
        return self.score(inputs, targets, points, tick), len(targets)

    def passes(self, point: Point) -> int:
        """How often the text is read for a point."""
        return 1

    def stream(self, split: str, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Inputs and targets [N] of a split as one stream.

        Raises:
            ValueError: the split is not one running text.
        """
        reading = copy.copy(self.data)
        reading.trainer, reading.eval_batch_size = None, 1
        inputs, targets, read = [], [], 0
        for number, batch in enumerate(reading.dataloader(split)):
            restarts = number > 0 and bool(batch.reset.any())
            if batch.inputs.shape[1] != 1 or restarts or bool((batch.targets == IGNORE).any()):
                raise ValueError(f"{self.method}: the {split} split is not one running text, read in order")
            inputs.append(batch.inputs[:, 0])
            targets.append(batch.targets[:, 0])
            read += len(batch.inputs)
            if limit is not None and read >= limit:
                break
        return torch.cat(inputs)[:limit].to(self.device), torch.cat(targets)[:limit].to(self.device)

    def chunks(self, inputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and targets, as many at once as their logits have room for."""
        vocabulary = int(self.data.spec.vocabulary)
        return chunks(self.net, inputs, targets, max(1, min(LONGEST_CHUNK, CHUNK_ELEMENTS // vocabulary)))


class Temperature(Scorer):
    """softmax(logits / tau)."""

    method, together = "temperature", True

    @torch.no_grad()
    def score(
        self, inputs: Tensor, targets: Tensor, points: Sequence[Point], tick: Callable[[int], None]
    ) -> list[float]:
        """See `tempered_nll`."""
        total = torch.zeros(len(points), dtype=torch.float64)
        for x, target in self.chunks(inputs, targets):
            nll = tempered_nll(self.net.head, x, target, [point["tau"] for point in points])
            total += nll.sum(1, dtype=torch.float64).cpu()
            tick(len(target))
        return total.tolist()


class Cache(Scorer):
    """The model's distribution mixed with that of its last states."""

    method, together = "cache", True

    @torch.no_grad()
    def score(
        self, inputs: Tensor, targets: Tensor, points: Sequence[Point], tick: Callable[[int], None]
    ) -> list[float]:
        """See `NeuralCache`."""
        caches = list(dict.fromkeys((point["window"], point["theta"]) for point in points))
        memory = NeuralCache(max(window for window, _ in caches))
        total = [0.0] * len(points)
        for x, target in self.chunks(inputs, targets):
            model = -token_nll(self.net.head, x, target).double()
            found = dict(zip(caches, memory.score(x.float(), target, caches).double(), strict=True))
            for index, point in enumerate(points):
                own = found[point["window"], point["theta"]]
                total[index] -= float(mixed(model, own, point["lambda"]).sum())
            tick(len(target))
        return total


class Dynamic(Scorer):
    """Weights that follow the text."""

    method = "dynamic"
    scale: list[Tensor] | None = None

    def prepare(self, points: Sequence[Point]) -> None:
        """Measure the scale of the training text's gradients, which the RMS rule needs."""
        windows = max(point["windows"] for point in points)
        if self.scale is None and any(point["rule"] == "rms" for point in points):
            tick = self.progress("dynamic, gradients on train", windows)
            self.scale = gradient_scale(self.net, self._train_windows(windows, tick))

    def _train_windows(
        self, windows: int, tick: Callable[[int], None]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        reading = copy.copy(self.data)
        reading.trainer = None
        for batch in itertools.islice(reading.dataloader("train"), windows):
            yield tuple(part.to(self.device) for part in batch)
            tick(1)

    def tuning_tokens(self, points: Sequence[Point]) -> int | None:
        """As many as are asked for: each point is a pass of its own."""
        return int(points[0]["tune_tokens"])

    def score(
        self, inputs: Tensor, targets: Tensor, points: Sequence[Point], tick: Callable[[int], None]
    ) -> list[float]:
        """See `dynamic_nll`."""
        found = []
        for point in points:
            options = {name: point[name] for name in ("segment", "rate", "decay", "epsilon")}
            scale = self.scale if point["rule"] == "rms" else None
            nll = dynamic_nll(self.net, inputs, targets, scale=scale, tick=tick, **options)
            found.append(float(nll.sum(dtype=torch.float64)))
        return found


class MonteCarlo(Scorer):
    """Dropout left on."""

    method = "mc-dropout"

    def passes(self, point: Point) -> int:
        """As many as are asked for."""
        return int(point["passes"])

    def prepare(self, points: Sequence[Point]) -> None:
        """Refuse a network that draws nothing: two passes over a few tokens are equal."""
        inputs, targets = self.stream("valid", 16)
        first, second = (
            monte_carlo_nll(self.net, inputs, targets, passes=1, window=16, seed=seed) for seed in (0, 1)
        )
        if torch.equal(first, second):
            raise ValueError(
                "mc-dropout: this network was trained without dropout, so every pass is the same"
            )

    def score(
        self, inputs: Tensor, targets: Tensor, points: Sequence[Point], tick: Callable[[int], None]
    ) -> list[float]:
        """See `monte_carlo_nll`."""
        found = []
        for point in points:
            nll = monte_carlo_nll(self.net, inputs, targets, tick=tick, **point)
            found.append(float(nll.sum()))
        return found


SCORERS: Mapping[str, Callable[[Any, Any, Progress], Scorer]] = {
    scorer.method: scorer for scorer in (Dynamic, Cache, Temperature, MonteCarlo)
}


def tune_and_score(scorer: Scorer, options: Mapping[str, Sequence[Any]], split: str) -> Found:
    """Take the best point of the options' values on the validation split, and score `split` with it.

    Raises:
        ValueError: the network or the data cannot be scored so.
    """
    points = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
    scorer.prepare(points)
    best, tuned = points[0], None
    if len(points) > 1:
        limit = scorer.tuning_tokens(points)
        nll, tokens = scorer.measure("valid", points, limit)
        losses = [value / tokens for value in nll]
        lowest = min((loss for loss in losses if math.isfinite(loss)), default=None)
        if lowest is None:
            raise ValueError(f"{scorer.method}: diverges at every point of the grid; give smaller values")
        best = points[losses.index(lowest)]
        varied = [name for name, values in options.items() if len(values) > 1]
        grid = [
            {**{name: point[name] for name in varied}, "loss": loss}
            for point, loss in zip(points, losses, strict=True)
        ]
        tuned = {"split": "valid", "tokens": tokens, "grid": grid}
    (nll_of_split,), count = scorer.measure(split, [best], None)
    return Found(nll_of_split, count, best, tuned)
