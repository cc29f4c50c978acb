"""The specs that a DataModule publishes, the batches that it yields, and the names of the splits.

A spec holds the numbers of the data (vocabulary, channels, windows), so that none is typed twice in configs. It is
plain data (`to_dict` gives only str, int, float, list and dict), so it can be kept in a checkpoint that loads with
`weights_only=True` and read back with `from_dict`. It holds no data and knows no file.

Dimensions: `B` batch, `T` time, `C` channels, `K` target channels, `P` horizon, `Lb` look-back.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Self, get_args, get_origin, get_type_hints

from gatelab.data.messages import DataError

if TYPE_CHECKING:  # a spec is read where torch is not loaded
    from torch import Tensor

SPLITS: Final = ("train", "valid", "test")
"""In the order of time or text."""
SPLIT_NAMES: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    "test": "test",
}
"""What splits are called in files -> their name."""


def check_fractions(split: list[float]) -> None:
    """Raise `DataError` unless `split` is two or three positive fractions that sum to 1."""
    if len(split) not in (2, 3) or not min(split) > 0 or not abs(sum(split) - 1) <= 1e-9:
        raise DataError(
            f"data.split={split}: give [train, valid] or [train, valid, test] fractions that sum to 1"
        )


CODE_POINTS: Final = 0x110000 - 0x800
"""Characters that Unicode has room for."""
MASKED: Final = "***"
"""Stands for `seed_token` in records of a time when its name was taken for that of a secret; no task needs it."""
IGNORE: Final = -100
"""A target that is not scored: padding, burn-in, or a step where nothing is asked. torch's own convention."""


class TokenBatch(NamedTuple):
    """One window of `B` parallel streams of tokens, time-major.

    inputs: `[T, B]` int64, always valid token ids (padding repeats the seed token).
    targets: `[T, B]` int64, the next token at each step, or `IGNORE` where the step is not scored.
        A window may hold nothing but `IGNORE` (burn-in; another rank's turn): divide by the count only if it
        is > 0.
    reset: `[B]` bool, True where the state must be zero before the window's first step.
    """

    inputs: "Tensor"
    targets: "Tensor"
    reset: "Tensor"


class SeriesBatch(NamedTuple):
    """`B` forecasting windows, scaled: value = scaled * spread + level, which are of the whole data or of each series.

    past: `[B, Lb, C]` float32, the look-back of every channel; 0 where nothing was observed.
    future: `[B, P, K]` float32, the steps right after it of the target channels.
    scored: `[B, P, K]` bool, False where the future was filled in, not measured; None: all of it was measured.

    None where the data have none of it:
    observed: `[B, Lb, C]` bool, False where the past is missing or lies before the series' first row.
    known: `[B, Lb + P, F]` float32, covariates that are known in the future, standardised; known_codes:
        `[B, Lb + P, G]` int64, the categorical ones.
    static: `[B, S]` float32, facts of each series; static_codes: `[B, U]` int64, the categorical ones.
    level, spread: `[B, K]` float32, of the window's own series; None: the spec's mean and std.
    mase_scale: `[B, K]` float32, of the window's own series, in original units, 0 where MASE is undefined.
    series: `[B]` int64, which series the window is of, from 0.
    start: `[B]` int64, of a table with times at equal steps: the number of the first row's time.
    """

    past: "Tensor"
    future: "Tensor"
    scored: "Tensor | None" = None
    observed: "Tensor | None" = None
    known: "Tensor | None" = None
    known_codes: "Tensor | None" = None
    static: "Tensor | None" = None
    static_codes: "Tensor | None" = None
    level: "Tensor | None" = None
    spread: "Tensor | None" = None
    mase_scale: "Tensor | None" = None
    series: "Tensor | None" = None
    start: "Tensor | None" = None

    @property
    def scales(self) -> "dict[str, Tensor | None]":
        """`level`, `spread` and `mase_scale` by name, as `ForecastError` and `QuantileError` take them."""
        return {"level": self.level, "spread": self.spread, "mase_scale": self.mase_scale}

    def each(self, change: "Callable[[Tensor], Tensor]") -> "SeriesBatch":
        """Return the batch with every tensor that it has changed alike, e.g. `lambda values: values[:1]`."""
        return SeriesBatch(*(None if values is None else change(values) for values in self))  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    """Tuples become lists, so that JSON and YAML give back what was written."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _fits(value: Any, kind: Any) -> bool:
    """Whether plain data is of a field's type: a number, text, a tuple or dict of them; others are not checked."""
    origin, inner = get_origin(kind), get_args(kind)
    if value == MASKED:
        return True
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, inner[0]) for item in value)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, inner[1]) for item in value.values())
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)


class Spec:
    """Base of a spec (a frozen dataclass): `to_dict` and `from_dict`; `kind` tells specs apart in plain data.

    sizes: the names of fields that a network and its checkpoint are made for; data that differ in one are other data.
    """

    kind: ClassVar[str]
    sizes: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain data, `kind` included."""
        return {"kind": self.kind} | {key: _plain(value) for key, value in asdict(self).items()}  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build the spec from what `to_dict` returned; a wrong key or type is a `DataError`."""
        if data.get("kind") != cls.kind:
            raise DataError(f"{cls.__name__}: 'kind' is {data.get('kind')!r}, expected {cls.kind!r}")
        parts = fields(cls)  # type: ignore[arg-type]
        names, given = {part.name for part in parts}, set(data) - {"kind"}
        names -= {part.name for part in parts if part.default_factory is not MISSING} - given
        if names != given:
            raise DataError(
                f"{cls.__name__}: missing keys {sorted(names - given)}, unknown keys {sorted(given - names)}"
            )
        values = {key: tuple(data[key]) if isinstance(data[key], list) else data[key] for key in names}
        for key, kind in get_type_hints(cls).items():
            if key in names and not _fits(values[key], kind):
                wanted = getattr(kind, "__name__", kind) if get_origin(kind) is None else kind
                raise DataError(f"{cls.__name__}: '{key}' is {str(values[key])[:40]!r}, expected {wanted}")
        return cls(**values)


@dataclass(frozen=True)
class TextSpec(Spec):
    """Tokens to predict one after the other.

    vocabulary: number of different tokens `V`; ids are `0..V-1`.
    level: "word", "char", "byte", "bpe", or "symbol" (synthetic problems that are no text).
    seed_token: the id that stands before the first token of a stream.
    tokens: scored tokens of each split, e.g. `{"train": 929589, "valid": 73760, "test": 82430}`.
    characters: characters of text (bytes at level "byte") behind those tokens, for bits per character; 0 where there
        is no text.
    unknown: those of the tokens that stand for words or characters outside the vocabulary (see `escape`). Empty in
        records of before they were counted.
    """

    kind: ClassVar[str] = "language_model"
    sizes: ClassVar[tuple[str, ...]] = ("vocabulary", "seed_token")

    vocabulary: int
    level: str
    seed_token: int
    tokens: dict[str, int]
    characters: dict[str, int]
    unknown: dict[str, int] = field(default_factory=dict)
    random_window: int = field(default_factory=int)

    @property
    def bits(self) -> str:
        """The name of the metric in bits: per character `bpc`, at level "byte" per byte `bpb`."""
        return "bpb" if self.level == "byte" else "bpc"

    def characters_per_token(self, split: str) -> float:
        """Return the characters that a token of `split` stands for: bits/character = bits/token divided by it.

        1.0 at levels "char" and "byte" and where there is no text.
        """
        return (self.characters[split] or self.tokens[split]) / self.tokens[split]

    def escape(self, split: str) -> float | None:
        """Return the nats per token that tell which character an unknown one is: all of Unicode are equally likely.

        With them the tokens give the text back, so there are bits per character (the order -1 of PPM, Cleary & Witten
        1984). None where words are unknown: no code for them is known.
        """
        if not self.unknown.get(split):
            return 0.0
        return (
            self.unknown[split] / self.tokens[split] * math.log(CODE_POINTS) if self.level == "char" else None
        )


@dataclass(frozen=True)
class SeriesSpec(Spec):
    """Channels over time, some of which are to be forecast.

    channels: names of the `C` inputs; targets: names of the `K` outputs; target_index: their places among
        `channels`.
    lookback, horizon, season: steps. season is what the seasonal naive forecast and MASE repeat (24 for
        hourly data).
    frequency: a pandas offset such as "h" or "15min", or "" when the rows carry no usable time.
    mean, std: of every channel on the training split (population standard deviation), in original units.
    mase_scale: per target, mean absolute seasonal difference on the training split, in original units; 0 where
        MASE is undefined.
    windows: scored windows of each split.

    Of a panel (many series), 0 or empty elsewhere, also in records of before there were panels:
    series: their number; mean, std and mase_scale are then of all of them together.
    known: names of the `F` covariates known in the future; known_codes: of the `G` categorical ones, with their number
        of values (0 stands for a value not seen in training).
    static, static_codes: the same for facts of each series.
    reference: of a test split that is published with one, `smape` (percent) and `mase` of its reference forecast, for
        OWA: M4's Naive2.
    scales: mean and standard deviation, on the training rows, of the covariates that are numbers in the file. words:
        the values of the categorical ones in the order of their codes, which begin at 1.
    clock: what the features of the calendar went by: the zone of the stamps ("Europe/Paris", "+01:00"), "none" if they
        had none; "" where there are no such features.
    scaled: whether each series is scaled by itself.
    """

    kind: ClassVar[str] = "forecasting"
    sizes: ClassVar[tuple[str, ...]] = (
        *("channels", "targets", "lookback", "horizon"),
        *("known", "known_codes", "static", "static_codes"),
    )

    channels: tuple[str, ...]
    targets: tuple[str, ...]
    target_index: tuple[int, ...]
    lookback: int
    horizon: int
    season: int
    frequency: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mase_scale: tuple[float, ...]
    windows: dict[str, int]
    series: int = field(default_factory=int)
    known: tuple[str, ...] = field(default_factory=tuple)
    known_codes: dict[str, int] = field(default_factory=dict)
    static: tuple[str, ...] = field(default_factory=tuple)
    static_codes: dict[str, int] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)
    scales: dict[str, list[float]] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)
    clock: str = field(default_factory=str)
    scaled: bool = field(default_factory=bool)
