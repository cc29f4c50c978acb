"""Classification: a sequence in, the class that it belongs to out.

Every example counts once, in float64. Nothing is carried between batches.

Letters: B examples, T steps, C channels, N classes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.data.labelled.scores import BINS, ClassSums, class_figures, class_sums
from gatelab.data.labelled.spec import LabelledBatch, LabelledSpec
from gatelab.data.messages import bars
from gatelab.tasks.base import Task, TaskOptions
from gatelab.tasks.contract import GraphInterface, HeatMap, Metric, RunSource, Sample, TableSample, remark
from gatelab.tasks.explanation.reading import Reading
from gatelab.tasks.labels.reading import read_examples

if TYPE_CHECKING:
    import pandas as pd


class ClassificationScores(torchmetrics.Metric):
    """Accuracy, macro-F1, loss, calibration error and number of examples, see `class_figures`.

    Args:
        classes: N.

    Attributes:
        counts: the confusion matrix [N, N] int64, row the true class, column the answer.
    """

    full_state_update = False
    counts: Tensor
    bins: Tensor
    nll: Tensor

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zeros = ClassSums(
            torch.zeros(classes, classes, dtype=torch.int64),
            torch.zeros(3, BINS, dtype=torch.float64),
            torch.zeros((), dtype=torch.float64),
        )
        for name, value in zeros._asdict().items():
            self.add_state(name, value, dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits [B, N] and the true classes [B]."""
        for name, value in class_sums(logits, labels)._asdict().items():
            setattr(self, name, getattr(self, name) + value)

    def compute(self) -> dict[str, Tensor]:
        """Return the figures as float64 scalars; NaN when nothing was scored."""
        return class_figures(ClassSums(self.counts, self.bins, self.nll))


class ClassificationTask(Task):
    """Train and evaluate a `gatelab.core.SequenceClassifier` (or any net from inputs and lengths to logits [B, N]).

    Args:
        label_smoothing: share of the true class' probability spread evenly over all, in the objective only (Szegedy
            et al. 2016, arXiv:1512.00567).

    The other arguments are those of `Task`. Metrics: `accuracy`, `macro_f1`, `loss`, `ece`, `examples`, see
    `ClassificationScores`.
    """

    spec_type: ClassVar[type[LabelledSpec]] = LabelledSpec
    unit: ClassVar[str] = "examples"
    figures = (
        Metric("accuracy", "right answers", "share", better="max"),
        Metric("macro_f1", "macro-F1", better="max"),
        Metric("loss", unit="nats per example"),
        Metric("ece", "calibration error", "15 bins"),
        Metric("examples", "scored examples", better=None),
    )
    taught_by = ("classes", "vocabulary", "channels", "mean", "std")
    metric: ClassificationScores

    def __init__(
        self, net: nn.Module, *, label_smoothing: float = 0.0, **options: Unpack[TaskOptions]
    ) -> None:
        super().__init__(net, **options)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), not {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.metric = ClassificationScores(len(self.spec.classes))

    @classmethod
    def build_net(
        cls, net: Callable[..., nn.Module], core: Callable[..., nn.Module], spec: LabelledSpec
    ) -> nn.Module:
        """Call the network's factory with what the spec says about vocabulary, channels and classes."""
        return net(vocab_size=spec.vocabulary, channels=spec.channels, classes=len(spec.classes), core=core)

    def count(self, batch: LabelledBatch) -> int:
        """Return the batch's examples."""
        return len(batch.labels)

    def train_loss(self, batch: LabelledBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective, the summed NLL (nats) and the number of examples."""
        logits = self.net(batch.inputs, batch.lengths)
        nll = F.cross_entropy(logits, batch.labels, reduction="sum")
        objective = nll
        if self.label_smoothing:
            objective = F.cross_entropy(
                logits, batch.labels, reduction="sum", label_smoothing=self.label_smoothing
            )
        if self.teacher is not None:
            with torch.no_grad():
                own = self.teacher.task.net(batch.inputs, batch.lengths)
            objective = self.teacher.mixed(objective, self.teacher.soft_loss(logits, own).sum())
        count = torch.full((), len(batch.labels), device=nll.device)
        return objective / self.mean_count(count), nll, count

    def eval_step(self, batch: LabelledBatch) -> None:
        """Score a batch."""
        self.metric.update(self.net(batch.inputs, batch.lengths), batch.labels)

    # what the views ask for

    def commands(self) -> list[str]:
        """New examples can be told apart."""
        return ["predict RUN --input FILE --output out.csv"]

    def _confusion(self, run: RunSource) -> Tensor:
        """How many examples of each true class [N] got each answer [N], on the validation split."""
        scores = ClassificationScores(len(self.spec.classes))
        with torch.inference_mode():
            for batch in run.data.dataloader("valid"):
                scores.update(self.net(batch.inputs, batch.lengths), batch.labels)
        return scores.counts

    def sample(self, run: RunSource) -> TableSample:
        """The confusion matrix of the validation split."""
        return self._table(self._confusion(run))

    def _table(self, counts: Tensor) -> TableSample:
        rows = zip(self.spec.classes, counts.tolist(), strict=True)
        return TableSample(
            f"The {int(counts.sum()):,} examples of the validation split: a row for each true class, a column "
            "for each answer.",
            ("true class", *self.spec.classes),
            tuple((name, *map(str, row)) for name, row in rows),
        )

    def samples(self, run: RunSource) -> Sequence[Sample]:
        """The confusion matrix in numbers and as a picture."""
        counts = self._confusion(run)
        shares = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
        note = "The share of each true class (left) that got each answer (above)."
        values = [[round(share, 4) for share in row] for row in shares.tolist()]
        return [self._table(counts), HeatMap(note, self.spec.classes, self.spec.classes, values)]

    def predict(self, run: RunSource, file: Path) -> "pd.DataFrame":
        """Answer every example of `file`, which the DataModule reads as it reads its own.

        Returns:
            What the DataModule says each example is (its text, or its id), `label`, and `probability` of that label.

        Raises:
            ValueError: the file does not fit, or the DataModule reads no new examples.
        """
        import pandas as pd

        if not hasattr(run.reader, "new_examples"):
            raise ValueError(
                f"{type(run.reader).__name__} reads no new examples; nothing can be said of {file}"
            )
        named, batches = run.reader.new_examples(file, self.spec, run.tokenizer)
        labels: list[str] = []
        probability: list[float] = []
        with torch.inference_mode(), bars() as progress:
            tick = progress("examples", len(next(iter(named.values()))))
            for batch in batches:
                p, answer = self.net(batch.inputs, batch.lengths).double().softmax(-1).max(-1)
                labels += [self.spec.classes[i] for i in answer.tolist()]
                probability += p.tolist()
                tick(len(answer))
        remark(file, run.reader.notes)
        return pd.DataFrame({**named, "label": labels, "probability": probability})

    def reading(self, run: RunSource, file: Path | None = None) -> Reading:
        """Some examples, with the place of a step in its sequence as probe; see reading.py."""
        return read_examples(self, run, file)

    def graph(self) -> GraphInterface:
        """Whole sequences [B, T] or [B, T, C] in, logits [B, N] out."""
        spec: LabelledSpec = self.spec
        shape: tuple[int | str, ...] = (
            ("batch", "time") if spec.vocabulary else ("batch", "time", spec.channels)
        )
        return GraphInterface({"inputs": shape}, {"logits": ("batch", len(spec.classes))}, steps=28)

    def example_input(self, batch: int, steps: int) -> tuple[Tensor, ...]:
        """Random sequences, all of `steps` steps."""
        spec: LabelledSpec = self.spec
        generator = torch.Generator().manual_seed(batch * 1000 + steps)
        if spec.vocabulary:
            return (torch.randint(spec.vocabulary, (batch, steps), generator=generator),)
        return (torch.randn(batch, steps, spec.channels, generator=generator),)
