"""A DataModule of sounds to be told apart, each with its class."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor

from gatelab.data.audio.frames import padded
from gatelab.data.audio.fsdd import check_apart, single_digits
from gatelab.data.audio.module import AudioDataModule, SoundOptions
from gatelab.data.audio.recordings import Corpus, Example
from gatelab.data.audio.speech_commands import speech_commands
from gatelab.data.labelled.scores import class_figures, class_sums
from gatelab.data.labelled.spec import Inputs, LabelledBatch, LabelledSpec
from gatelab.data.messages import DataError


class SoundDataModule(AudioDataModule):
    """Sounds, each with its class.

    corpus: "fsdd" (digits), "speech_commands", or "files": `path` is a folder with one folder a class, or a manifest
        with the columns path and label (see own_files.py).
    leave_out: of fsdd, the speaker that the test split is made of; None: the official split.
    valid_speaker: of fsdd, the speaker that validates and does not train; None: five takes of the training speakers.
    classes: of speech_commands, 12 or 35.
    options: see `AudioDataModule`.
    """

    spec: LabelledSpec
    inputs: ClassVar[Inputs] = "channels"
    column = "label"

    def __init__(
        self,
        corpus: Literal["fsdd", "speech_commands", "files"] = "fsdd",
        path: str | None = None,
        leave_out: str | None = None,
        valid_speaker: str | None = None,
        classes: Literal[12, 35] = 12,
        **options: Unpack[SoundOptions],
    ) -> None:
        super().__init__(corpus, path, **options)
        if corpus == "fsdd":
            check_apart(valid_speaker, "data.leave_out", leave_out)
        self.leave_out, self.valid_speaker, self.classes = leave_out, valid_speaker, classes

    def _published(self) -> Corpus:
        if self.source == "fsdd":
            return single_digits(self.leave_out, self.valid_speaker, self.mirror, self.cache)
        return speech_commands(self.classes, self.data_seed, self.mirror, self.cache)

    def _publish(self, corpus: Corpus) -> LabelledSpec:
        there = {example.text for example in corpus.examples["train"]}
        classes = corpus.classes or tuple(sorted(there))
        for split, examples in corpus.examples.items():
            for example in examples:
                if example.text not in there:
                    raise DataError(
                        f"{example.name}: the class {example.text!r} is in the split {split} and not in train; move or "
                        "add examples"
                    )
        if len(classes) < 2:
            raise DataError(f"data.path={self.path}: has one class, {classes[0]!r}; give at least two")
        self.label = {name: place for place, name in enumerate(classes)}
        return LabelledSpec(
            classes=classes,
            vocabulary=0,
            channels=self.features.channels,
            examples={split: len(examples) for split, examples in corpus.examples.items()},
            rate=corpus.recordings.rate,
            mean=tuple(self.frames.scale.mean),
            std=tuple(self.frames.scale.std),
        )

    def _batch(self, frames: list[Tensor], examples: list[Example]) -> LabelledBatch:
        return LabelledBatch(
            *padded(frames), torch.tensor([self.label[example.text] for example in examples])
        )

    def new_examples(
        self, file: Path, spec: LabelledSpec, tokenizer: Any = None
    ) -> tuple[dict[str, list[str]], Iterator[LabelledBatch]]:
        """Read new sounds (see `new_sounds`) as batches whose labels are all 0."""
        named, batches = self.new_sounds(file, spec)
        return named, (LabelledBatch(x, lengths, torch.zeros_like(lengths)) for x, lengths in batches)

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the scores of always answering the commonest class of the training split, as often as it is there."""
        self._known(split)
        assert self.corpus is not None
        train, labels = (
            torch.tensor([self.label[example.text] for example in self.corpus.examples[name]])
            for name in ("train", split)
        )
        frequency = torch.bincount(train, minlength=len(self.spec.classes)).double() / len(train)
        figures = class_figures(class_sums(frequency.log().expand(len(labels), -1), labels))
        return {"majority_class": {name: float(value) for name, value in figures.items()}}
