"""The base of the DataModules of sounds (sound_module.py, speech_module.py).

Both read a corpus (fsdd.py, speech_commands.py, own_files.py) and share what makes frames of it (frames.py).

Dimensions: `B` batch, `T` frames, `C` channels.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal, Unpack, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gatelab.data.audio.augment import Augmentation
from gatelab.data.audio.features import Features
from gatelab.data.audio.frames import Frames, Normalization, Scale, Sounds, padded, scale_of
from gatelab.data.audio.own_files import MANIFESTS, Column, Row, manifest, own_sounds, sounds_in
from gatelab.data.audio.recordings import Corpus, Example
from gatelab.data.audio.wav import ENDINGS, HIGHEST_RATE, read_sound, resample
from gatelab.data.base_module import BatchOrder, GatelabDataModule, Loading
from gatelab.data.disk_cache import CacheEntry, cached
from gatelab.data.folds import item_cuts
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
    top_db: float | None
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
    features, window, hop, mels, low, high, cepstra, top_db: what a frame is, see `Features`.
    normalize: each channel over all training frames ("global"); over the utterance (which takes the microphone away,
        and of a short sound much of what it is); over all sounds of its speaker in the split ("speaker", which needs no
        label, but must know who speaks: fsdd, connected_digits, or a manifest with a column `speaker`); or "none".
    speed, shift, noise, snr, time_masks, time_mask, frequency_masks, frequency_mask, vtlp, filter: augmentation of the
        training split, see `Augmentation`.
    path: of your own files, a folder or a manifest (see own_files.py). split: of them, fractions [train, valid] or
        [train, valid, test]; None: .8, .1, .1. rate: samples a second that they are brought to; None: all have the
        same. channels: of files with several, "mix", "first" or "error".
    data_seed: of what is drawn once: splits of your own files, the silence of Speech Commands, connected digits.
    batch_size, eval_batch_size: sounds of a batch.
    folds, fold: validate on block `fold` of `folds` of the train and valid examples, in an order drawn from seed 0; of
        whole speakers where none of them is in both splits.
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
        top_db: float | None = None,
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
        self.features = Features(features, window, hop, mels, low, high, cepstra, top_db)
        noises = (5.0, 30.0) if snr is None else tuple(snr)
        bands = (time_masks, time_mask, frequency_masks, frequency_mask, vtlp, filter)
        self.augmentation = Augmentation(speed, shift, noise, noises, *bands)  # type: ignore[arg-type]
        if normalize not in get_args(Normalization):
            raise DataError(f"data.normalize={normalize}: give one of {', '.join(get_args(Normalization))}")
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
        rate = corpus.recordings.rate
        every = (example for examples in corpus.examples.values() for example in examples)
        self._note_short(((example.name, example.samples) for example in every), rate)
        if self.normalize == "speaker":
            self._refuse_unknown_speakers(corpus)
        scale = Scale()
        if self.normalize == "global":
            scale = self._scales(corpus, {"": corpus.examples["train"]})[""]
        self.frames = self.frames_of(rate, scale, self._background(corpus))
        self.spec = self._publish(corpus)
        self.splits, self.corpus = tuple(corpus.examples), corpus

    def frames_of(self, rate: int, scale: Scale, background: np.ndarray | None = None) -> Frames:
        """How sounds of a rate become frames; `scale`: of the training frames, where they are normalised by it."""
        noise = np.zeros(0, np.float32) if background is None else background
        return Frames(self.features, self.augmentation, rate, self.normalize, self.seed, scale, noise)

    def _background(self, corpus: Corpus) -> np.ndarray:
        parts = [corpus.recordings.sound((piece,)).numpy() for piece in corpus.background]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def _refuse_unknown_speakers(self, corpus: Corpus) -> None:
        every = (example for examples in corpus.examples.values() for example in examples)
        if unknown := [example.name for example in every if not example.speaker]:
            raise DataError(
                f"data.normalize=speaker: nothing says who speaks in {few(unknown)}; give a manifest with a column "
                "`speaker`, or data.normalize=utterance"
            )

    def _scales(self, corpus: Corpus, groups: Mapping[str, list[Example]]) -> dict[str, Scale]:
        """Mean and deviation of the channels of each group's frames."""
        recordings = corpus.recordings
        which = hashlib.sha256(repr(groups).encode()).hexdigest()

        def make() -> CacheEntry:
            scales = {}
            for name, group in groups.items():
                sounds = (recordings.sound(example.pieces) for example in group)
                scales[name] = scale_of(self.features(sound, recordings.rate) for sound in sounds)
            return CacheEntry({}, {"scales": scales})

        key = {
            "what": "sound scales",
            "groups": which,
            "sounds": recordings.sha256,
            **asdict(self.features),
        }
        own = type(self.features) is not Features  # its code is not in the key
        facts = (make() if own else cached(self.cache, lambda: key, make)).facts
        return {name: Scale(*scale) for name, scale in facts["scales"].items()}

    def _speakers(self, corpus: Corpus, split: str) -> dict[str, Scale]:
        """Of normalize="speaker": mean and deviation of the channels over each speaker's sounds in a split."""
        if self.normalize != "speaker":
            return {}
        groups: dict[str, list[Example]] = {}
        for example in corpus.examples[split]:
            groups.setdefault(example.speaker, []).append(example)
        return self._scales(corpus, groups)

    def _note_short(self, sounds: Iterable[tuple[str, int]], rate: int) -> None:
        """Tell which of the sounds, name and samples, are shorter than a window."""
        window = self.features.sizes(rate)[0]
        if short := [name for name, samples in sounds if samples < window]:
            self.notes.append(
                f"{counted(len(short), 'sound')} shorter than a window of {self.features.window:g} ms, filled up with "
                f"silence: {few(short)}"
            )

    def _take_fold(self, corpus: Corpus, folds: int, fold: int) -> Corpus:
        train, valid = corpus.examples["train"], corpus.examples["valid"]
        pool = [*train, *valid]
        whole = not {e.speaker for e in train if e.speaker} & {e.speaker for e in valid if e.speaker}
        groups: dict[str | int, list[int]] = {}
        for number, example in enumerate(pool):
            groups.setdefault((whole and example.speaker) or number, []).append(number)
        of_speakers = all(isinstance(name, str) for name in groups)
        cuts = item_cuts(len(groups), folds, "speakers" if of_speakers else "sounds")
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(groups))
        members = list(groups.values())
        block = {number for place in order[cuts[fold] : cuts[fold + 1]] for number in members[place]}
        self.notes.append(
            f"data.fold={fold} of data.folds={folds}: {len(block):,} of {len(pool):,} examples are valid"
            + ", whole speakers" * of_speakers
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
        speakers = self._speakers(self.corpus, split)
        sounds = Sounds(self.corpus.recordings, examples, self.frames, self._batch, speakers, redrawn)
        if split != "train":
            return sounds, self._order(split, len(examples), rank, world_size)
        lengths = np.array([example.samples for example in examples])
        return sounds, self._order(split, lengths, rank, world_size, SimilarLengths, tells_epoch=True)

    def new_sounds(
        self, file: Path, spec: Any
    ) -> tuple[dict[str, list[str]], Iterator[tuple[Tensor, Tensor]]]:
        """Read new sounds: one file, a folder of them, or a manifest (a .csv with the column `path`).

        Returns:
            the column `path`, and batches of frames `[B, T, C]` with their lengths `[B]`, in the same order. After the
            last of them `notes` tells of sounds that are shorter than a window.

        Raises:
            DataError: naming the file that cannot be read or has another rate than the run's sounds, or that does not
                say who speaks where the run must know.
        """
        if is_table(file, *MANIFESTS):
            rows = manifest(file, None, self.notes)
        else:
            if not file.is_dir() and file.suffix.lower() not in ENDINGS:
                raise DataError(
                    f"{file}: is no sound ({few(ENDINGS, 9)}), no folder and no manifest (.csv, .tsv)"
                )
            found = sounds_in(file) if file.is_dir() else [file]
            rows = [Row(str(each), each, "") for each in found]
        if not rows:
            raise DataError(f"{file}: has no sound files")
        frames = self.frames_of(spec.rate, Scale(spec.mean, spec.std))
        speakers: dict[str, Scale] = {}
        if self.normalize == "speaker":
            if not all(row.speaker for row in rows):
                raise DataError(
                    f"{file}: the run normalises by speaker (data.normalize=speaker); give a manifest, a .csv with the "
                    "columns path,speaker and all sounds that there are of each speaker"
                )
            for name in dict.fromkeys(row.speaker for row in rows):
                own = (self._new_sound(row, spec.rate) for row in rows if row.speaker == name)
                speakers[name] = scale_of(self.features(sound, spec.rate) for sound in own)

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            sizes: list[tuple[str, int]] = []
            for start in range(0, len(rows), self.eval_batch_size):
                some = rows[start : start + self.eval_batch_size]
                sounds = [self._new_sound(row, spec.rate) for row in some]
                sizes += [(row.where, len(sound)) for row, sound in zip(some, sounds, strict=True)]
                yield padded(
                    [
                        frames.of(sound, speakers.get(row.speaker))
                        for row, sound in zip(some, sounds, strict=True)
                    ]
                )
            self._note_short(sizes, spec.rate)

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
