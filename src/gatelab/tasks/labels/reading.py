"""What a classifier and a model of music give `gatelab explain`: some examples of the validation split, or of a file.

Letters: R examples, T steps, C channels, E embedding.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from gatelab.core.attribution import replaced
from gatelab.data.labelled.spec import LabelledBatch
from gatelab.data.polyphony.spec import FramesBatch, key_name
from gatelab.tasks.contract import RunSource
from gatelab.tasks.explanation.reading import Part, Prediction, Reading, decoded, powers, with_context

EXAMPLES, SHOWN = 96, 4
"""Examples that are read, and those of them that are shown."""
MOST_STEPS = 1000
"""Steps of an example that are read; longer ones are cut."""
FURTHEST = 64
"""The most frames of context that are asked for."""


def read_examples(task: Any, run: RunSource, file: Path | None) -> Reading:
    """Examples and their classes, for `Task.reading`; of a file the classes are the network's own answers."""
    if file is None:
        batch = _some(run.data.dataloader("valid"))
    else:
        if not hasattr(run.reader, "new_examples"):
            raise ValueError(f"{type(run.reader).__name__} reads no new examples; leave --input out")
        batch = _some(run.reader.new_examples(file, task.spec, run.tokenizer)[1])
    net, spec = task.net, task.spec
    if file is not None:
        with torch.no_grad():
            batch = batch._replace(labels=net(batch.inputs, batch.lengths).argmax(-1))
    rows = range(min(SHOWN, len(batch.labels)))
    ids = batch.inputs if spec.vocabulary else None
    words = ids is not None and run.tokenizer is not None
    if ids is not None and words:
        steps = [_words(run, ids[r, : batch.lengths[r]]) for r in rows]
    else:
        steps = [_numbers(batch.lengths[r]) for r in rows]
    probes = positions(batch.lengths, batch.inputs.shape[1])
    drawn = {}
    if ids is None:
        mean = batch.inputs.double().mean(-1).numpy()
        probes["mean of the channels"] = np.where(np.isnan(probes["step"]), np.nan, mean)
        drawn = {"mean of the channels": mean[:SHOWN]}

    def losses() -> Tensor:
        return F.cross_entropy(net(batch.inputs, batch.lengths), batch.labels, reduction="none")

    whose = "their classes" if file is None else "the network's answers as classes"
    return Reading(
        note=f"{len(batch.labels)} examples of {'the validation split' if file is None else file}, {whose}.",
        unit="nats per example",
        losses=losses,
        parts=[
            Part(
                "core",
                net.core,
                steps,
                "text" if words else "series",
                probes,
                None if ids is None else ids.numpy(),
                drawn,
            )
        ],
        targets=[spec.classes[label] for label in batch.labels.tolist()],
        carried=lambda k: (_of_the_end(net, batch, k + 1), losses()),
        contexts=powers(int(batch.lengths.median()) - 1),
        context_unit="steps",
        prediction=_prediction(task, batch, steps[0], "text" if words else "frames"),
    )


def _some(batches: Iterable[LabelledBatch]) -> LabelledBatch:
    """Some examples of all, at random, padded to the longest."""
    rows = [
        (inputs[:length][:MOST_STEPS], label)
        for batch in batches
        for inputs, length, label in zip(batch.inputs, batch.lengths.tolist(), batch.labels, strict=True)
    ]
    chosen = [rows[n] for n in np.random.default_rng(0).permutation(len(rows))[:EXAMPLES]]
    inputs = [one for one, _ in chosen]
    lengths = torch.tensor([len(one) for one in inputs])
    return LabelledBatch(
        pad_sequence(inputs, batch_first=True), lengths, torch.stack([label for _, label in chosen])
    )


def _of_the_end(net: Any, batch: LabelledBatch, steps: int) -> Tensor:
    """The losses of examples of which only the last steps are read."""
    ends = [one[max(0, n - steps) : n] for one, n in zip(batch.inputs, batch.lengths.tolist(), strict=True)]
    lengths = torch.tensor([len(one) for one in ends])
    return F.cross_entropy(net(pad_sequence(ends, batch_first=True), lengths), batch.labels, reduction="none")


def _words(run: RunSource, ids: Tensor) -> list[str]:
    tokenizer = run.tokenizer
    space = " " if getattr(tokenizer, "level", "") == "word" else ""
    return [f"{text}{space}" for text in decoded(ids, tokenizer.decode)]


def _numbers(length: Tensor) -> list[str]:
    return [str(step) for step in range(int(length))]


def positions(lengths: Tensor, steps: int) -> dict[str, np.ndarray]:
    """The number of each step from the beginning and from the end, [R, T], NaN behind the end."""
    step = np.tile(np.arange(steps, dtype=float), (len(lengths), 1))
    end = lengths.numpy()[:, None]
    inside = step < end
    return {
        "step": np.where(inside, step, np.nan),
        "steps to the end": np.where(inside, end - 1 - step, np.nan),
    }


def _prediction(task: Any, batch: LabelledBatch, steps: list[str], kind: Any) -> Prediction:
    """The class of the first example, attributed to its words or channels."""
    net, spec, length = task.net, task.spec, batch.lengths[:1]
    one = batch.inputs[:1, : int(length)]
    with torch.no_grad():
        said = int(net(one, length).argmax(-1))
    if isinstance(net.embedding, nn.Embedding):
        x = net.embedding(one[0]).detach()
        baseline = net.embedding.weight.detach().mean(0).expand_as(x).clone()

        def score(v: Tensor) -> Tensor:
            with replaced(net.embedding, v[:, None]):
                return net(one, length).log_softmax(-1)[0, said]

    else:
        x, baseline = one[0], one[0].mean(0, keepdim=True).expand_as(one[0]).clone()

        def score(v: Tensor) -> Tensor:
            return net(v[None], length).log_softmax(-1)[0, said]

    features = () if kind == "text" else spec.names or [f"channel {c}" for c in range(x.shape[-1])]
    note = f"The log-probability of the class {spec.classes[said]!r} that the first example is said to have."
    if getattr(net, "n_grams", None) is not None:
        note += (
            " What the map of n-grams adds to it is fixed here: the embedding's share alone is attributed."
        )
    return Prediction(note, score, x, baseline, steps, kind, features)


def read_music(task: Any, run: RunSource, file: Path | None) -> Reading:
    """Pieces of the validation split, or the piece of a file, for `Task.reading`."""
    if file is None:
        pieces = [
            frames[:length][:MOST_STEPS]
            for batch in run.data.dataloader("valid")
            for frames, length in zip(batch.frames, batch.lengths.tolist(), strict=True)
        ]
        pieces = [pieces[n] for n in np.random.default_rng(0).permutation(len(pieces))[:EXAMPLES]]
    else:
        from gatelab.data.polyphony.module import read_frames

        pieces = [torch.from_numpy(read_frames(file, task.spec.keys)).float()]
    lengths = torch.tensor([len(piece) for piece in pieces])
    batch = FramesBatch(pad_sequence(pieces, batch_first=True), lengths)
    read = lengths - 1
    probes = positions(read, batch.frames.shape[1] - 1)
    sounding = batch.frames[:, :-1].double().sum(-1).numpy()
    probes["keys that sound"] = np.where(np.isnan(probes["step"]), np.nan, sounding)
    first = pieces[0][:-1]

    def losses() -> Tensor:
        logits, truth = task.scored(batch)
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(1)

    with torch.no_grad():
        key = int(task.net(first[None])[0, -1].argmax())
    used = torch.nonzero(first.sum(0)).flatten().tolist()

    def score(x: Tensor) -> Tensor:
        whole = first.new_zeros(first.shape).index_copy(1, torch.tensor(used), x)
        return F.logsigmoid(task.net(whole[None])[0, -1, key])

    x = first[:, used]
    return Reading(
        note=f"{len(pieces)} pieces of {'the validation split' if file is None else file}.",
        unit="nats per frame",
        losses=losses,
        parts=[
            Part(
                "core",
                task.net.core,
                [_numbers(n) for n in read[:SHOWN]],
                "series",
                probes,
                drawn={"keys that sound": sounding[:SHOWN]},
            )
        ],
        carried=with_context(task.net.core, losses),
        contexts=powers(min(int(read.median()) - 1, FURTHEST)),
        prediction=Prediction(
            f"The log-probability that {key_name(key)} sounds after the first piece; the baseline is silence.",
            score, x, torch.zeros_like(x), _numbers(read[0]), "frames", [key_name(k) for k in used],
        ),
    )  # fmt: skip
