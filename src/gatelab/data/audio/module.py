"""DataModules of sounds: those to be told apart, and speech to be written down.

Both read a corpus (fsdd.py, speech_commands.py, own_files.py) and share what makes frames of it (frames.py).

Dimensions: `B` batch, `T` frames, `C` channels, `U` symbols of a transcript.
"""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gatelab.data.audio.augment import Augmentation
from gatelab.data.audio.edit_distance import errors_of
from gatelab.data.audio.features import Features
from gatelab.data.audio.frames import Frames, Normalization, Sounds, padded, statistics
from gatelab.data.audio.fsdd import check_apart, connected_digits, single_digits
from gatelab.data.audio.own_files import MANIFESTS, Column, Row, manifest, own_sounds, sounds_in
from gatelab.data.audio.recordings import Corpus, Example
from gatelab.data.audio.spec import Level, SpeechBatch, SpeechSpec
from gatelab.data.audio.speech_commands import speech_commands
from gatelab.data.audio.wav import HIGHEST_RATE, read_sound, resample
from gatelab.data.base_module import BatchOrder, GatelabDataModule, Loading
from gatelab.data.disk_cache import CacheEntry, cached
from gatelab.data.folds import item_cuts
from gatelab.data.labelled.scores import class_figures, class_sums
from gatelab.data.labelled.spec import LabelledBatch, LabelledSpec
from gatelab.data.messages import DataError, counted, few
from gatelab.data.orders import SimilarLengths
from gatelab.data.specs import check_fractions
from gatelab.data.text_table import is_table


class SoundOptions(Loading, total=False):
    """Arguments of both DataModules, see `AudioDataModule`."""

    features: Literal["log_mel", "mfcc"]
    window: float
    hop: float
    mels: int
    low: float
    high: float | None
    cepstra: int
    normalize: Normalization
    speed: float
    shift: float
    noise: float
    snr: list[float] | None
    time_masks: int
    time_mask: int
    frequency_masks: int
    frequency_mask: int
    vtlp: float
    filter: float
    split: list[float] | None
    rate: int | None
    channels: Literal["error", "mix", "first"]
    data_seed: int
    batch_size: int
    eval_batch_size: int
    mirror: str | None
    cache: str | None


class AudioDataModule(GatelabDataModule):
    """The base of both: sounds as frames.

    corpus: which sounds; "files" are your own.
    features, window, hop, mels, low, high, cepstra: what a frame is, see `Features`.
    normalize: each channel over all training frames ("global"), over the utterance (which takes the microphone away,
        and of a short sound much of what it is), or "none".
    speed, shift, noise, snr, time_masks, time_mask, frequency_masks, frequency_mask, vtlp, filter: augmentation of the
        training split, see `Augmentation`.
    path: of your own files, a folder or a manifest (see own_files.py). split: of them, fractions [train, valid] or
        [train, valid, test]; None: .8, .1, .1. rate: samples a second that they are brought to; None: all have the
        same. channels: of files with several, "mix", "first" or "error".
    data_seed: of what is drawn once: splits of your own files, the silence of Speech Commands, connected digits.
    batch_size, eval_batch_size: sounds of a batch.
    folds, fold: validate on block `fold` of `folds` of the train and valid examples, in an order drawn from seed 0.
    mirror, cache: folders to look for files in before downloading (see fetch.py).

    A sound that is shorter than a window is filled up with silence.

    column: of a manifest, beside `path`.
    """

    column: ClassVar[Column]

    def __init__(
        self,
        corpus: str,
        path: str | None,
        *,
        features: Literal["log_mel", "mfcc"] = "log_mel",
        window: float = 25.0,
        hop: float = 10.0,
        mels: int = 40,
        low: float = 20.0,
        high: float | None = None,
        cepstra: int = 13,
        normalize: Normalization = "global",
        speed: float = 0.0,
        shift: float = 0.0,
        noise: float = 0.0,
        snr: list[float] | None = None,
        time_masks: int = 0,
        time_mask: int = 0,
        frequency_masks: int = 0,
        frequency_mask: int = 0,
        vtlp: float = 0.0,
        filter: float = 0.0,
        split: list[float] | None = None,
        rate: int | None = None,
        channels: Literal["error", "mix", "first"] = "error",
        data_seed: int = 0,
        batch_size: int = 32,
        eval_batch_size: int = 100,
        mirror: str | None = None,
        cache: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(batch_size, eval_batch_size, **loading)
        self.features = Features(features, window, hop, mels, low, high, cepstra)
        noises = (5.0, 30.0) if snr is None else tuple(snr)
        bands = (time_masks, time_mask, frequency_masks, frequency_mask, vtlp, filter)
        self.augmentation = Augmentation(speed, shift, noise, noises, *bands)  # type: ignore[arg-type]
        if normalize not in ("utterance", "global", "none"):
            raise DataError(f"data.normalize={normalize}: give utterance, global or none")
        self.normalize = normalize
        if split is not None:
            check_fractions(split)
        if rate is not None and not 1 <= rate <= HIGHEST_RATE:
            raise DataError(f"data.rate={rate}: give 1 to {HIGHEST_RATE} Hz, or null: as the sounds are")
        self.source, self.path, self.split, self.rate, self.channels = corpus, path, split, rate, channels
        self.data_seed = data_seed
        self.mirror, self.cache = mirror, cache
        self.corpus: Corpus | None = None

    @property
    def at_hand(self) -> bool:
        """Whether the sounds are this machine's own files."""
        return self.source == "files"

    @abstractmethod
    def _published(self) -> Corpus:
        """Return the corpus where it is not of your own files."""

    @abstractmethod
    def _publish(self, corpus: Corpus) -> Any:
        """Check the examples and return the spec."""

    @abstractmethod
    def _batch(self, frames: list[Tensor], examples: list[Example]) -> Any:
        """Return examples as a batch."""

    def _read(self) -> Corpus:
        if self.source != "files":
            return self._published()
        assert self.path is not None
        return own_sounds(
            self.path,
            self.column,
            self.split,
            self.data_seed,
            channels=self.channels,
            rate=self.rate,
            cache=self.cache,
        )

    def prepare_data(self) -> None:
        """Set up here: the other processes of the machine then find what was worked out."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read the corpus and work out the spec; a second call does nothing."""
        if self.corpus is not None:
            return
        corpus = self._read()
        self.fingerprint, self.notes = corpus.fingerprint, list(corpus.notes)
        if self.folds is not None and self.fold is not None:
            corpus = self._take_fold(corpus, self.folds, self.fold)
        self._note_short(corpus)
        rate = corpus.recordings.rate
        self.frames = self.frames_of(rate, *self._statistics(corpus), self._background(corpus))
        self.spec = self._publish(corpus)
        self.splits, self.corpus = tuple(corpus.examples), corpus

    def frames_of(
        self, rate: int, mean: list[float], std: list[float], background: np.ndarray | None = None
    ) -> Frames:
        """How sounds of a rate become frames; `mean`, `std`: of the training frames, where they are normalised so."""
        noise = np.zeros(0, np.float32) if background is None else background
        return Frames(self.features, self.augmentation, rate, self.normalize, self.seed, mean, std, noise)

    def _background(self, corpus: Corpus) -> np.ndarray:
        parts = [corpus.recordings.sound((piece,)).numpy() for piece in corpus.background]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def _statistics(self, corpus: Corpus) -> tuple[list[float], list[float]]:
        """Mean and deviation of the training frames' channels, where they are normalised by them."""
        if self.normalize != "global":
            return [], []
        recordings, train = corpus.recordings, corpus.examples["train"]
        which = hashlib.sha256(repr(train).encode()).hexdigest()

        def make() -> CacheEntry:
            sounds = (recordings.sound(example.pieces) for example in train)
            mean, std = statistics(self.features(sound, recordings.rate) for sound in sounds)
            return CacheEntry({}, {"mean": mean, "std": std})

        key = {
            "what": "sound statistics",
            "train": which,
            "sounds": recordings.sha256,
            **asdict(self.features),
        }
        own = type(self.features) is not Features  # its code is not in the key
        facts = (make() if own else cached(self.cache, lambda: key, make)).facts
        return facts["mean"], facts["std"]

    def _note_short(self, corpus: Corpus) -> None:
        window = self.features.sizes(corpus.recordings.rate)[0]
        every = (example for examples in corpus.examples.values() for example in examples)
        if short := [example.name for example in every if example.samples < window]:
            self.notes.append(
                f"{counted(len(short), 'sound')} shorter than a window of {self.features.window:g} ms, filled up with "
                f"silence: {few(short)}"
            )

    def _take_fold(self, corpus: Corpus, folds: int, fold: int) -> Corpus:
        pool = [*corpus.examples["train"], *corpus.examples["valid"]]
        cuts = item_cuts(len(pool), folds)
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(pool))
        block = set(order[cuts[fold] : cuts[fold + 1]].tolist())
        self.notes.append(
            f"data.fold={fold} of data.folds={folds}: {len(block):,} of {len(pool):,} examples are valid"
        )
        parts = {
            "train": [example for number, example in enumerate(pool) if number not in block],
            "valid": [example for number, example in enumerate(pool) if number in block],
        }
        return corpus._replace(examples=corpus.examples | parts)

    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        assert self.corpus is not None
        examples = self.corpus.examples[split]
        redrawn = self.corpus.redrawn if split == "train" else None
        sounds = Sounds(self.corpus.recordings, examples, self.frames, self._batch, redrawn)
        if split != "train":
            return sounds, self._order(split, len(examples), rank, world_size)
        lengths = np.array([example.samples for example in examples])
        return sounds, self._order(split, lengths, rank, world_size, SimilarLengths, tells_epoch=True)

    def new_sounds(
        self, file: Path, spec: Any
    ) -> tuple[dict[str, list[str]], Iterator[tuple[Tensor, Tensor]]]:
        """Read new sounds: one file, a folder of them, or a manifest (a .csv with the column `path`).

        Returns:
            the column `path`, and batches of frames `[B, T, C]` with their lengths `[B]`, in the same order.

        Raises:
            DataError: naming the file that cannot be read or has another rate than the run's sounds.
        """
        if is_table(file, *MANIFESTS):
            rows = manifest(file, None)
        else:
            found = sounds_in(file) if file.is_dir() else [file]
            rows = [Row(str(each), each, "") for each in found]
        if not rows:
            raise DataError(f"{file}: has no sound files")
        frames = self.frames_of(spec.rate, list(spec.mean), list(spec.std))

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for start in range(0, len(rows), self.eval_batch_size):
                sounds = [
                    self._new_sound(row, spec.rate) for row in rows[start : start + self.eval_batch_size]
                ]
                yield padded([frames.of(sound) for sound in sounds])

        return {"path": [str(row.file) for row in rows]}, batches()

    def _new_sound(self, row: Row, rate: int) -> Tensor:
        try:
            raw = row.file.read_bytes()
        except OSError as error:
            raise DataError(f"{row.where}: cannot be read ({error.strerror})") from None
        sound = read_sound(raw, row.where, self.channels)
        if sound.rate == rate:
            return torch.from_numpy(sound.samples)
        if self.rate is None:
            raise DataError(
                f"{row.where}: has {sound.rate:,} Hz, the sounds that the run was trained on have {rate:,} Hz; bring "
                f"it to that rate first (ffmpeg -i IN -ar {rate} OUT.wav)"
            )
        return torch.from_numpy(resample(sound.samples, sound.rate, rate))


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
        if len(classes) < 2:
            raise DataError(f"data.path={self.path}: has one class, {classes[0]!r}; give at least two")
        for split, examples in corpus.examples.items():
            for example in examples:
                if example.text not in there:
                    raise DataError(
                        f"{example.name}: the class {example.text!r} is in the split {split} and not in train; move or "
                        "add examples"
                    )
        self.label = {name: place for place, name in enumerate(classes)}
        return LabelledSpec(
            classes=classes,
            vocabulary=0,
            channels=self.features.channels,
            examples={split: len(examples) for split, examples in corpus.examples.items()},
            rate=corpus.recordings.rate,
            mean=tuple(self.frames.mean),
            std=tuple(self.frames.std),
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
            mean=tuple(self.frames.mean),
            std=tuple(self.frames.std),
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
