"""Speech recognition by CTC: the frames of an utterance in, its transcript out.

The objective is the negative log-probability of the transcript, summed over all of its alignments, per symbol. Rates of
errors are sums of edits over all utterances and one division. Nothing is carried between batches.

Letters: B utterances, T frames, T' steps, C channels, V symbols.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.speech.decoding import BLANK, decode
from gatelab.data.audio.edit_distance import errors_of
from gatelab.data.audio.spec import SpeechBatch, SpeechSpec
from gatelab.data.messages import bars, few
from gatelab.tasks.base import Task, TaskOptions
from gatelab.tasks.contract import GraphInterface, Metric, RunSource, TableSample, check_beam, remark
from gatelab.tasks.explanation.reading import Reading
from gatelab.tasks.speech.graph import frames_and_state, recognizer_graph
from gatelab.tasks.speech.reading import read_speech

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 10
"""Utterances of a sample."""
LEVEL = ("data.level",)


SUMS = ("word_errors", "words", "character_errors", "characters", "wrong")


class ErrorRates(torchmetrics.Metric):
    """Errors of transcripts, and the loss of CTC.

    `compute` returns float64 scalars: `wer`, `cer`: edits of words and of characters in percent of those of the true
    transcripts (more than 100 where too much is said); `ser`: transcripts with any error, in percent; `loss`: nats per
    symbol; `words`: of the true transcripts.
    """

    full_state_update = False
    counts: Tensor
    utterances: Tensor
    symbols: Tensor
    nll: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("counts", torch.zeros(len(SUMS), dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("utterances", "symbols"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, said: Sequence[str], truth: Sequence[str], nll: Tensor, symbols: Tensor) -> None:
        """Add transcripts beside the true ones, and the summed NLL (nats) of so many symbols."""
        errors = (errors_of(*pair) for pair in zip(said, truth, strict=True))
        self.counts += torch.tensor([[each[name] for name in SUMS] for each in errors]).sum(0).to(self.counts)
        self.utterances += len(truth)
        self.nll += nll.to(torch.float64)
        self.symbols += symbols

    def compute(self) -> dict[str, Tensor]:
        """Return the figures named above; NaN when nothing was scored."""
        word_errors, words, character_errors, characters, wrong = self.counts.double()
        return {
            "wer": 100 * word_errors / words,
            "cer": 100 * character_errors / characters,
            "ser": 100 * wrong / self.utterances,
            "loss": self.nll / self.symbols,
            "words": words,
        }


class RecognitionTask(Task):
    """Train and evaluate a `gatelab.core.SpeechRecognizer`.

    Args:
        beam: how a transcript is read from the network's outputs: 1 takes the likeliest path, more a prefix beam search
            of that width (see `gatelab.core.speech.decoding`).

    The other arguments are those of `Task`. Metrics: `wer`, `cer`, `ser`, `loss`, `words`, see `ErrorRates`.
    """

    spec_type: ClassVar[type[SpeechSpec]] = SpeechSpec
    unit: ClassVar[str] = "frames"
    figures = (
        Metric("wer", "word error rate", "percent"),
        Metric("cer", "character error rate", "percent"),
        Metric("ser", "transcripts with an error", "percent"),
        Metric("loss", unit="nats per symbol", same=LEVEL),
        Metric("words", "spoken words", better=None),
    )
    metric: ErrorRates

    def __init__(self, net: nn.Module, *, beam: int = 1, **options: Unpack[TaskOptions]) -> None:
        super().__init__(net, **options)
        check_beam(beam)
        self.beam = beam
        self.metric = ErrorRates()

    @classmethod
    def build_net(
        cls, net: Callable[..., nn.Module], core: Callable[..., nn.Module], spec: SpeechSpec
    ) -> nn.Module:
        """Call the network's factory with what the spec says about symbols and channels.

        Raises:
            ValueError: it reads so many frames at once that a transcript does not fit into what it gives.
        """
        made: Any = net(symbols=len(spec.symbols), channels=spec.channels, core=core)
        if (stride := getattr(made, "stride", 1)) > spec.most_stride:
            raise ValueError(
                f"stride={stride}: the transcript of {spec.tightest} is too long for the steps that are left; give at "
                f"most {spec.most_stride}"
            )
        return made

    def count(self, batch: SpeechBatch) -> int:
        """Return the batch's frames, padding included."""
        return batch.frames.shape[0] * batch.frames.shape[1]

    def train_loss(self, batch: SpeechBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective, the summed NLL (nats) and the number of symbols."""
        nll = self._nll(self._log_probs(batch), batch)
        count = batch.target_lengths.sum()
        return nll / self.mean_count(count), nll, count

    def eval_step(self, batch: SpeechBatch) -> None:
        """Score a batch."""
        log_probs = self._log_probs(batch)
        nll = self._nll(log_probs, batch)
        self.metric.update(
            self._said(log_probs, batch.lengths), self._truth(batch), nll, batch.target_lengths.sum()
        )

    def _log_probs(self, batch: SpeechBatch) -> Tensor:
        logits: Tensor = self.net(batch.frames, lengths=batch.lengths)[0]
        return logits.float().log_softmax(-1)

    def _nll(self, log_probs: Tensor, batch: SpeechBatch) -> Tensor:
        # on the CPU: on a GPU its gradient is not the same at every call, which `trainer.deterministic` refuses
        lengths = (self.net.steps(batch.lengths).cpu(), batch.target_lengths.cpu())
        nll = F.ctc_loss(log_probs.cpu(), batch.targets.cpu(), *lengths, blank=BLANK, reduction="sum")
        return nll.to(log_probs.device)

    def _said(self, log_probs: Tensor, lengths: Tensor) -> list[str]:
        steps = self.net.steps(lengths)
        return [self.spec.text(outputs) for outputs in decode(log_probs, steps, self.beam)]

    def _truth(self, batch: SpeechBatch) -> list[str]:
        pairs = zip(batch.targets.tolist(), batch.target_lengths.tolist(), strict=True)
        return [self.spec.text(outputs[:count]) for outputs, count in pairs]

    # what the views ask for

    def commands(self) -> list[str]:
        """New speech can be written down."""
        return ["predict RUN --input FILE.wav --output out.csv"]

    def sample(self, run: RunSource) -> TableSample:
        """Transcripts of the first utterances of the validation split beside the true ones."""
        rows: list[tuple[str, str]] = []
        with torch.inference_mode():
            for batch in run.data.dataloader("valid"):
                rows += zip(
                    self._truth(batch), self._said(self._log_probs(batch), batch.lengths), strict=True
                )
                if len(rows) >= SHOWN:
                    break
        note = "The first utterances of the validation split."
        return TableSample(note, ("spoken", "written down"), tuple(rows[:SHOWN]))

    def predict(self, run: RunSource, file: Path) -> "pd.DataFrame":
        """Write down the speech in a sound file, in all of a folder, or in those that a manifest names.

        Returns:
            `path`, `transcript`; nothing is written down of a sound that is too short for a step, which is told.

        Raises:
            ValueError: a file cannot be read or does not fit.
        """
        import pandas as pd

        named, batches = run.reader.new_sounds(file, self.spec)
        said: list[str] = []
        unread: list[str] = []
        with torch.inference_mode(), bars() as progress:
            tick = progress("sounds", len(named["path"]))
            for frames, lengths in batches:
                texts, read = [""] * len(lengths), self.net.steps(lengths) > 0
                if read.any():
                    some = lengths[read]
                    log_probs = self._log_probs(SpeechBatch(frames[read], some, some, some))
                    places = read.nonzero().flatten().tolist()
                    for place, text in zip(places, self._said(log_probs, some), strict=True):
                        texts[place] = text
                paths = named["path"][len(said) :]
                unread += [path for path, enough in zip(paths, read.tolist(), strict=False) if not enough]
                said += texts
                tick(len(texts))
        notes = [*run.reader.notes]
        if unread:
            notes.append(
                f"too short for the {self.net.stride} frames that the network reads at once, so nothing is written "
                f"down: {few(unread)}"
            )
        remark(file, notes)
        return pd.DataFrame({**named, "transcript": said})

    def reading(self, run: RunSource, file: Path | None = None) -> Reading:
        """Some utterances, with loudness as a probe; see reading.py."""
        return read_speech(self, run, file)

    def graph(self) -> GraphInterface:
        """Frames [B, T, C] and state in, logits [T', B, V + 1] and state out; of both directions without a state."""
        return recognizer_graph(self.net, self.spec)

    def example_input(self, batch: int, steps: int) -> tuple[Tensor, ...]:
        """Random frames [batch, steps, C], and the state after some others."""
        return frames_and_state(self.net, self.spec, batch, steps)
