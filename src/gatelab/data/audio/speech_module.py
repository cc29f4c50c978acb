"""A DataModule of speech to be written down, each utterance with its transcript.

Dimensions: `B` batch, `T` frames, `C` channels, `U` symbols of a transcript.
"""

from collections import Counter
from itertools import pairwise
from typing import Literal, Unpack

import torch
from torch import Tensor

from gatelab.data.audio.edit_distance import errors_of
from gatelab.data.audio.frames import padded
from gatelab.data.audio.fsdd import check_apart, connected_digits
from gatelab.data.audio.module import AudioDataModule, SoundOptions
from gatelab.data.audio.recordings import Corpus, Example
from gatelab.data.audio.spec import Level, SpeechBatch, SpeechSpec
from gatelab.data.messages import DataError


class SpeechDataModule(AudioDataModule):
    """Speech, each utterance with its transcript.

    corpus: "connected_digits", made of FSDD, or "files": `path` is a manifest with the columns path and transcript (see
        own_files.py).
    level: what a symbol is, a character or a word.
    train_utterances, eval_utterances, valid_speaker, test_speaker: of connected digits; the other speakers train.
        valid_speaker None: five takes of the training speakers validate.
    redraw: connected digits of training are put together anew in every epoch.
    options: see `AudioDataModule`.
    """

    spec: SpeechSpec
    column = "transcript"

    def __init__(
        self,
        corpus: Literal["connected_digits", "files"] = "connected_digits",
        path: str | None = None,
        level: Level = "char",
        train_utterances: int = 4000,
        eval_utterances: int = 400,
        valid_speaker: str | None = "theo",
        test_speaker: str = "yweweler",
        redraw: bool = False,
        **options: Unpack[SoundOptions],
    ) -> None:
        super().__init__(corpus, path, **options)
        for name, value in (("train_utterances", train_utterances), ("eval_utterances", eval_utterances)):
            if value < 1:
                raise DataError(f"data.{name}={value}: give at least 1")
        self.level = level
        self.utterances = {"train": train_utterances, "valid": eval_utterances, "test": eval_utterances}
        if corpus == "connected_digits":
            check_apart(valid_speaker, "data.test_speaker", test_speaker)
            if self.folds is not None and (valid_speaker is None or redraw):
                raise DataError(
                    f"data.folds={self.folds}: folds of connected digits are whole speakers, and with "
                    f"{'data.redraw=true' if redraw else 'data.valid_speaker=null'} a recording would be in several; "
                    "give data.valid_speaker=NAME data.redraw=false, or leave data.folds out"
                )
        self.valid_speaker, self.test_speaker, self.redraw = valid_speaker, test_speaker, redraw

    def _published(self) -> Corpus:
        speakers = (self.valid_speaker, self.test_speaker)
        return connected_digits(
            *speakers, self.utterances, self.redraw, self.data_seed, self.mirror, self.cache
        )

    def _symbols(self, text: str) -> list[str]:
        return text.split() if self.level == "word" else list(text)

    def _publish(self, corpus: Corpus) -> SpeechSpec:
        train = {symbol for example in corpus.examples["train"] for symbol in self._symbols(example.text)}
        symbols = (corpus.classes if self.level == "word" else ()) or tuple(sorted(train))
        self.output = {symbol: place + 1 for place, symbol in enumerate(symbols)}
        rate = corpus.recordings.rate
        strides: list[tuple[int, str]] = []
        could_be = {} if corpus.redrawn is None else {"train": corpus.redrawn.tightest()}
        for split, examples in (*corpus.examples.items(), *could_be.items()):
            fastest = self.augmentation.fastest if split == "train" else 1.0
            for example in examples:
                needed = self._needed(example, split)
                frames = self.features.count(int(example.samples / fastest), rate)
                if frames < needed:
                    raise DataError(
                        f"{example.name}: its transcript needs {needed} frames and the sound has {frames} of "
                        f"{self.features.hop:g} ms; correct the transcript, or give a smaller data.hop"
                    )
                strides.append((frames // needed, example.name))
        stride, tightest = min(strides)
        return SpeechSpec(
            symbols=symbols,
            level=self.level,
            channels=self.features.channels,
            rate=rate,
            mean=tuple(self.frames.scale.mean),
            std=tuple(self.frames.scale.std),
            utterances={split: len(examples) for split, examples in corpus.examples.items()},
            most_stride=stride,
            tightest=tightest,
        )

    def _needed(self, example: Example, split: str) -> int:
        """The outputs that a transcript needs: one a symbol, and one between two equal ones."""
        symbols = self._symbols(example.text)
        if unknown := [symbol for symbol in symbols if symbol not in self.output]:
            raise DataError(
                f"{example.name}: its transcript has {unknown[0]!r}, which no transcript of the training split has; "
                f"correct it, or move the utterance from {split} to train"
            )
        return len(symbols) + sum(a == b for a, b in pairwise(symbols))

    def _batch(self, frames: list[Tensor], examples: list[Example]) -> SpeechBatch:
        targets = [
            torch.tensor([self.output[s] for s in self._symbols(example.text)]) for example in examples
        ]
        lengths = torch.tensor([len(target) for target in targets])
        filled = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True)
        return SpeechBatch(*padded(frames), filled, lengths)

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the error rates of saying nothing, and of the commonest training word, as often as words are usual."""
        self._known(split)
        assert self.corpus is not None
        train = [example.text.split() for example in self.corpus.examples["train"]]
        word = Counter(word for words in train for word in words).most_common(1)[0][0]
        usual = " ".join([word] * round(sum(map(len, train)) / len(train)))
        truths = [example.text for example in self.corpus.examples[split]]
        return {name: _rates(said, truths) for name, said in (("nothing", ""), ("usual_word", usual))}


def _rates(said: str, truths: list[str]) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for truth in truths:
        sums.update(errors_of(said, truth))
    return {
        "wer": 100 * sums["word_errors"] / sums["words"],
        "cer": 100 * sums["character_errors"] / sums["characters"],
        "ser": 100 * sums["wrong"] / len(truths),
        "words": float(sums["words"]),
    }
