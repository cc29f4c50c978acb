"""What a recogniser gives `gatelab explain`: some utterances, and the spectrogram that a symbol rests on.

Letters: R utterances, T frames, T' steps, C channels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from gatelab.core.speech.decoding import BLANK
from gatelab.data.audio.spec import SpeechBatch
from gatelab.tasks.contract import RunSource
from gatelab.tasks.explanation.reading import Part, Prediction, Reading, powers, with_context
from gatelab.tasks.labels.reading import FURTHEST, positions

UTTERANCES, SHOWN = 64, 4


def read_speech(task: Any, run: RunSource, file: Path | None) -> Reading:
    """Utterances of the validation split, or of sound files, whose transcripts are then the network's own."""
    rows = _validation(run.data) if file is None else _of_file(task, run.reader, file)
    frames, targets = [one for one, _ in rows], [target for _, target in rows]
    counts = torch.tensor([len(one) for one in frames]), torch.tensor([len(one) for one in targets])
    batch = SpeechBatch(pad_sequence(frames, True), counts[0], pad_sequence(targets, True), counts[1])
    net = task.net
    steps = net.steps(batch.lengths)
    most = int(batch.lengths.max()) // net.stride
    loud = (
        batch.frames[:, : most * net.stride].mean(-1).unflatten(1, (-1, net.stride)).mean(-1).double().numpy()
    )
    probes = positions(steps, most)
    probes["loudness"] = np.where(np.isnan(probes["step"]), np.nan, loud)

    def losses() -> Tensor:
        said = net(batch.frames, lengths=batch.lengths)[0].log_softmax(-1)
        each = F.ctc_loss(said, batch.targets, steps, batch.target_lengths, blank=BLANK, reduction="none")
        return each / batch.target_lengths.clamp(min=1)

    return Reading(
        note=f"{len(rows)} utterances of {'the validation split' if file is None else file}"
        + ("." if file is None else ", with the network's own transcripts."),
        unit="nats per symbol, mean of utterances",
        losses=losses,
        parts=[
            Part(
                "core",
                net.core,
                [[str(step) for step in range(int(n))] for n in steps[:SHOWN]],
                "frames",
                probes,
                drawn={"mean of the frame's channels": loud[:SHOWN]},
            )
        ],
        carried=with_context(net.core, losses),
        contexts=powers(min(int(steps.median()) - 1, FURTHEST)),
        prediction=_prediction(task, frames[0]),
    )


def _validation(data: Any) -> list[tuple[Tensor, Tensor]]:
    """Frames [T, C] and targets [U] of the first utterances."""
    rows: list[tuple[Tensor, Tensor]] = []
    for batch in data.dataloader("valid"):
        rows += [
            (frames[:n], target[:u]) for frames, n, target, u in zip(*(part for part in batch), strict=True)
        ]
        if len(rows) >= UTTERANCES:
            break
    return rows[:UTTERANCES]


def _of_file(task: Any, reader: Any, file: Path) -> list[tuple[Tensor, Tensor]]:
    rows = []
    for frames, lengths in reader.new_sounds(file, task.spec)[1]:
        read = task.net.steps(lengths) > 0
        frames, lengths = frames[read], lengths[read]
        if not len(lengths):
            continue
        with torch.no_grad():
            said = task.net(frames, lengths=lengths)[0].argmax(-1).T
        for one, n, outputs in zip(frames, lengths.tolist(), said, strict=True):
            best = outputs[: n // task.net.stride].unique_consecutive()
            rows.append((one[:n], best[best != BLANK]))
    if not rows:
        raise ValueError(f"{file}: no sound has the {task.net.stride} frames that the network reads at once")
    return rows[:UTTERANCES]


def _prediction(task: Any, frames: Tensor) -> Prediction:
    """The first symbol of an utterance at the step that writes it, attributed to every band of every frame."""
    net = task.net
    with torch.no_grad():
        said = net(frames[None])[0][:, 0].log_softmax(-1)
    written = (said.argmax(-1) != BLANK).nonzero().flatten()
    step = int(written[0]) if len(written) else len(said) - 1
    symbol = int(said[step].argmax())
    name = "no symbol" if symbol == BLANK else repr(task.spec.symbols[symbol - 1])

    def score(x: Tensor) -> Tensor:
        return net(x[None])[0][step, 0].log_softmax(-1)[symbol]

    note = (
        f"The log-probability of {name} at step {step} of the first utterance, where it is written first; the baseline "
        "is the mean frame."
    )
    baseline = frames.mean(0, keepdim=True).expand_as(frames).clone()
    bands = [f"band {c}" for c in range(frames.shape[1])]
    return Prediction(note, score, frames, baseline, [str(t) for t in range(len(frames))], "frames", bands)
