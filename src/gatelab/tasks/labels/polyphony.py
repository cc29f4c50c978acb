"""Polyphonic music: from the frames so far, which keys sound in the next one.

Every frame but the first of a piece counts once, in float64. Nothing is carried between batches.

Letters: B pieces, T frames, K keys.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.data.polyphony.spec import FramesBatch, PolyphonySpec, key_name
from gatelab.tasks.base import Task, TaskOptions
from gatelab.tasks.contract import GraphInterface, Metric, RunSource, TableSample
from gatelab.tasks.explanation.reading import Reading
from gatelab.tasks.labels.reading import read_music

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_FRAMES = 16


class FrameScores(torchmetrics.Metric):
    """Sums over frames, divided once: `loss` (nats per frame), `accuracy`, `frames`.

    `accuracy` is that of Bay et al. 2009: of the keys that sound or are said to (a probability of at least a half), the
    share that both is true of.
    """

    full_state_update = False
    nll: Tensor
    both: Tensor
    either: Tensor
    frames: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("nll", "both", "either", "frames"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, truth: Tensor) -> None:
        """Add logits and truths of frames, both [frames, K]."""
        sounds, said = truth > 0, logits >= 0
        self.nll += F.binary_cross_entropy_with_logits(logits.double(), truth.double(), reduction="sum")
        self.both += (sounds & said).sum()
        self.either += (sounds | said).sum()
        self.frames += len(truth)

    def compute(self) -> dict[str, Tensor]:
        """Return the figures; NaN when no frame was scored."""
        return {
            "loss": self.nll / self.frames,
            "accuracy": self.both / self.either,
            "frames": self.frames,
        }


class PolyphonyTask(Task):
    """Train and evaluate a `gatelab.core.FrameModel` (or any net from frames and lengths to logits [B, T, K]).

    The arguments are those of `Task`. Metrics: see `FrameScores`.
    """

    spec_type: ClassVar[type[PolyphonySpec]] = PolyphonySpec
    unit: ClassVar[str] = "frames"
    figures = (
        Metric("loss", unit="nats per frame"),
        Metric("accuracy", "right keys", "share", better="max"),
        Metric("frames", "scored frames", better=None),
    )
    metric: FrameScores

    def __init__(self, net: nn.Module, **options: Unpack[TaskOptions]) -> None:
        super().__init__(net, **options)
        self.metric = FrameScores()

    @classmethod
    def build_net(
        cls, net: Callable[..., nn.Module], core: Callable[..., nn.Module], spec: PolyphonySpec
    ) -> nn.Module:
        """Call the network's factory with the number of keys."""
        return net(keys=spec.keys, core=core)

    def count(self, batch: FramesBatch) -> int:
        """Return the batch's frames that are scored."""
        return int((batch.lengths - 1).sum())

    def scored(self, batch: FramesBatch) -> tuple[Tensor, Tensor]:
        """Logits and truths [frames, K] of every frame but the first of each piece."""
        given, ahead, lengths = batch.frames[:, :-1], batch.frames[:, 1:], batch.lengths - 1
        inside = torch.arange(given.shape[1], device=lengths.device) < lengths.unsqueeze(1)
        return self.net(given, lengths)[inside], ahead[inside]

    def train_loss(self, batch: FramesBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective, the summed NLL (nats) and the number of scored frames."""
        logits, truth = self.scored(batch)
        nll = F.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
        count = torch.full((), len(truth), device=nll.device)
        return nll / self.mean_count(count), nll, count

    def eval_step(self, batch: FramesBatch) -> None:
        """Score a batch."""
        self.metric.update(*self.scored(batch))

    # what the views ask for

    def commands(self) -> list[str]:
        """The frames of a piece can be scored, and the next one told."""
        return ["predict RUN --input frames.txt --output out.csv"]

    def said(self, frames: Tensor) -> Tensor:
        """The keys [T, K] that are likelier than not to sound after each frame [T, K]."""
        with torch.inference_mode():
            said: Tensor = self.net(frames[None])[0] >= 0
        return said

    def sample(self, run: RunSource) -> TableSample:
        """The beginning of the first piece of the validation split, and what was said of each frame."""
        pieces = run.data.pieces["valid"]
        frames = torch.from_numpy(pieces.values[: min(SAMPLE_FRAMES + 1, int(pieces.lengths[0]))]).float()
        said = self.said(frames[:-1])
        rows = (
            (str(t + 2), keys_in_words(frames[t + 1]), keys_in_words(keys)) for t, keys in enumerate(said)
        )
        note = "The first frames of a validation piece, and which keys were likelier than not to sound."
        return TableSample(note, ("frame", "sounds", "said"), tuple(rows))

    def predict(self, run: RunSource, file: Path) -> "pd.DataFrame":
        """Read a piece, a frame a line, and tell what comes after each of its frames.

        Args:
            file: text; a line has the MIDI numbers of the keys that sound, and is empty where none does.

        Returns:
            A row for each frame: `keys`, `nll` of them given the frames before (nats; none for the first), and `next`,
            the keys that are likelier than not to sound after it.
        """
        import pandas as pd

        from gatelab.data.polyphony.module import read_frames

        frames = torch.from_numpy(read_frames(file, self.spec.keys)).float()
        with torch.inference_mode():
            logits = self.net(frames[None])[0].double()
            nll = F.binary_cross_entropy_with_logits(logits[:-1], frames[1:].double(), reduction="none").sum(
                1
            )
        return pd.DataFrame(
            {
                "keys": [keys_in_words(frame) for frame in frames],
                "nll": [None, *nll.tolist()],
                "next": [keys_in_words(keys) for keys in logits >= 0],
            }
        )

    def reading(self, run: RunSource, file: Path | None = None) -> Reading:
        """Some pieces, with the number of keys that sound as a probe; see reading.py."""
        return read_music(self, run, file)

    def graph(self) -> GraphInterface:
        """Frames [B, T, K] in, logits [B, T, K] of the frame after each out."""
        shape = ("batch", "time", self.spec.keys)
        return GraphInterface({"frames": shape}, {"logits": shape})

    def example_input(self, batch: int, steps: int) -> tuple[Tensor, ...]:
        """Random frames in which about four keys sound."""
        generator = torch.Generator().manual_seed(batch * 1000 + steps)
        drawn = torch.rand(batch, steps, self.spec.keys, generator=generator)
        return ((drawn < 4 / self.spec.keys).float(),)


def keys_in_words(keys: Tensor) -> str:
    """The names of the keys [K] that are not zero, the lowest first."""
    return " ".join(key_name(key) for key in keys.nonzero().flatten().tolist())
