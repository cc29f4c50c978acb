"""The search space of a study: the keys that are tried and their values, read from Hydra's override grammar.

`model.hidden_size=64,128` and `range(..)` are choices, `interval(a,b)` is a range of numbers, `tag(log, ..)`
makes it logarithmic, `glob(..)` picks choices of a group, `sort(..)` and `shuffle(..)` order them. A space
function adds values that depend on others.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import random
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.override_parser.types import (
    ChoiceSweep,
    FloatRange,
    Glob,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)

from gatelab.run import RequestError

if TYPE_CHECKING:
    import optuna

WHOLE = re.compile(r"interval\(\s*(?:start=)?[-+]?\d+\s*,\s*(?:end=)?[-+]?\d+\s*\)")

MOST_VALUES = 10_000
"""Of one key in a grid; each is a job that is checked before the first one starts."""


@dataclass(frozen=True)
class Parameter:
    """One key of a space.

    Attributes:
        key: as on the command line, without `+`; a group (`model`) or a value (`model.hidden_size`).
        kind: choice, or a range of whole or real numbers.
        choices: the values of a choice, in order, as plain data.
        low, high: ends of a range, both included; log: logarithmic; step: distance of whole numbers.
        group: whether the key chooses a configuration file.
        prefix: `+` or `++` where the key is to be added.
    """

    key: str
    kind: Literal["choice", "int", "float"]
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: int | None = None
    group: bool = False
    prefix: str = ""

    def values(self) -> list[Any]:
        """The choices as Optuna keeps them: lists and mappings as JSON text."""
        return [encode(choice) for choice in self.choices]

    def decode(self, value: Any) -> Any:
        """The configuration's value for what Optuna kept."""
        for choice in self.choices:
            kept = encode(choice)
            if kept == value and type(kept) is type(value):
                return choice
        return value

    def ends(self) -> list[Any]:
        """Values that stand for all of them when a configuration is checked: every choice, or both ends."""
        return self.values() if self.kind == "choice" else [self.low, self.high]

    def suggest(self, trial: optuna.Trial) -> Any:
        """Ask Optuna for a value."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.key, self.values())
        assert self.low is not None
        assert self.high is not None
        if self.kind == "int":
            return trial.suggest_int(
                self.key, int(self.low), int(self.high), step=self.step or 1, log=self.log
            )
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in study.json."""
        return {**asdict(self), "choices": list(self.choices)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Parameter:
        """The parameter that `to_dict` wrote."""
        return cls(**{**values, "choices": tuple(values["choices"])})


def encode(value: Any) -> Any:
    """A configuration's value as Optuna can keep it."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def parameter(override: Override, *, group: bool, options: Sequence[str] = (), seed: int = 0) -> Parameter:
    """Read one swept override.

    Args:
        override: parsed by Hydra, with `is_sweep_override()`.
        group: whether its key is a configuration group; `options` are its files then, for `glob(..)`.
        seed: of `shuffle(..)`.

    Raises:
        RequestError: a sweep that the grammar allows and a study cannot use, with the fix.
    """
    value, line = override.value(), override.input_line or ""
    key = override.get_key_element().lstrip("+~")
    prefix = override.get_key_element().removesuffix(key)
    if override.is_delete():
        raise RequestError(f"{line}: a key that is taken away cannot be swept.")
    if isinstance(value, IntervalSweep):
        return _interval(value, key, prefix, line, group)
    if isinstance(value, Glob):
        if not group:
            raise RequestError(f"{line}: glob(..) picks files of a group, and '{key}' is not a group.")
        choices: list[Any] = value.filter(list(options))
        if not choices:
            raise RequestError(f"{line}: no choice of {key} matches. Choices: {', '.join(options)}.")
    else:
        assert isinstance(value, ChoiceSweep | RangeSweep)
        if value.tags:
            raise RequestError(
                f"{line}: {', '.join(sorted(value.tags))} is of an interval, tag(log, interval(a, b))."
            )
        try:
            choices = list(itertools.islice(_listed(value), MOST_VALUES + 1))
        except (ValueError, ArithmeticError) as error:  # a step of 0
            raise RequestError(f"{line}: {error}.") from None
        if len(choices) > MOST_VALUES:
            raise RequestError(
                f"{line}: lists more than {MOST_VALUES:,} values; interval(a, b) samples them."
            )
        if value.shuffle:  # Hydra's own shuffling would give another order each time
            random.Random(f"{seed}:{key}").shuffle(choices)
    if not choices:
        raise RequestError(f"{line}: lists no value.")
    for index, choice in enumerate(choices):
        if choice in choices[:index]:  # Optuna, like Python, takes 1, 1.0 and true for the same choice
            raise RequestError(f"{line}: {choice!r} is there twice.")
        if isinstance(choice, float) and not math.isfinite(choice):
            raise RequestError(f"{line}: {choice} is not a value that can be compared with others.")
    mappings = {isinstance(choice, dict) for choice in choices if choice is not None}
    if len(mappings) > 1:
        raise RequestError(f"{line}: some of these are keys and some are not; give one kind.")
    group = group and mappings == {False}  # else keys of it, not files
    made = Parameter(key, "choice", tuple(choices), group=group, prefix=prefix)
    ascending = all(type(c) is int for c in choices) and choices == sorted(choices)
    if isinstance(value, RangeSweep) and not value.shuffle and ascending and len(choices) > 1:
        return replace(made, low=choices[0], high=choices[-1], step=choices[1] - choices[0])
    return made


def _listed(value: ChoiceSweep | RangeSweep) -> Iterable[Any]:
    """The choices in the order they are written, as plain data."""
    if isinstance(value, ChoiceSweep):
        return map(_plain, value.list)
    numbers = value.range()
    if not isinstance(numbers, range):
        # from the numbers as they are written: of Hydra's own, 0.1 and two steps of 0.1 are 0.30000000000000004
        numbers = FloatRange(*(Decimal(str(n)) for n in (value.start, value.stop, value.step)))
        return map(float, numbers)
    return numbers


def _plain(item: Any) -> Any:
    if isinstance(item, QuotedString):
        return item.text
    if isinstance(item, list):
        return [_plain(inner) for inner in item]
    if isinstance(item, dict):
        return {_plain(key): _plain(inner) for key, inner in item.items()}
    return item


def _interval(value: IntervalSweep, key: str, prefix: str, line: str, group: bool) -> Parameter:
    low, high, log = value.start, value.end, "log" in value.tags
    assert low is not None
    assert high is not None
    if group:
        raise RequestError(f"{line}: '{key}' is a group of files; list its choices instead of an interval.")
    unknown = sorted(value.tags - {"log"})
    if unknown:
        raise RequestError(f"{line}: no such tag: {', '.join(unknown)}. The tag is log.")
    if not low < high:
        raise RequestError(f"{line}: the interval is empty; its first end must be below its second.")
    if log and low <= 0:
        raise RequestError(f"{line}: a logarithmic interval begins above 0.")
    whole = isinstance(low, int) and isinstance(high, int)  # int(interval(..))
    if WHOLE.search(line) and "float(" not in line:  # Hydra itself makes real numbers of them
        whole, low, high = True, int(low), int(high)
    return Parameter(key, "int" if whole else "float", low=low, high=high, log=log, prefix=prefix)


@dataclass(frozen=True)
class Space:
    """All parameters of a study, and the function for values that depend on them.

    Attributes:
        parameters: in the order of the command line.
        function: suggests values under further keys or groups; called with a `Suggest`.
    """

    parameters: tuple[Parameter, ...]
    function: Callable[[Suggest], object] | None = None

    def __getitem__(self, key: str) -> Parameter | None:
        """The parameter of a key, if the key is listed."""
        return next((p for p in self.parameters if p.key == key), None)

    @property
    def listed(self) -> bool:
        """Whether all points can be listed, so that a grid is possible."""
        return self.function is None and all(p.kind == "choice" for p in self.parameters)

    def propose(self, trial: optuna.Trial) -> dict[str, Any]:
        """Ask for a point: override key -> value as Optuna keeps it (`StudySpec.config` takes these)."""
        for item in self.parameters:
            item.suggest(trial)
        if self.function is not None:
            self.function(Suggest(trial))
        return dict(trial.params)

    def ranged(self) -> Space:
        """For samplers: an ascending range of whole numbers is an interval with a step, not a set of names."""
        made = [replace(p, kind="int", choices=()) if p.step is not None else p for p in self.parameters]
        return replace(self, parameters=tuple(made))


class Suggest:
    """The argument of a space function: Optuna's three suggestions, with configuration keys as names.

    A group is a name too: `suggest.suggest_categorical("model", ["gru", "lstm"])`.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    @property
    def params(self) -> dict[str, Any]:
        """The values suggested so far."""
        return dict(self._trial.params)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of `choices`; lists are allowed."""
        kept = self._trial.suggest_categorical(name, [encode(choice) for choice in choices])
        return next(choice for choice in choices if encode(choice) == kept)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number from `low` to `high`, both included."""
        return int(self._trial.suggest_int(name, low, high, step=step, log=log))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from `low` to `high`."""
        return float(self._trial.suggest_float(name, low, high, log=log))


def function_file(dotted: str, cwd: Path) -> Path:
    """The file of the module that a space function stands in, found as Python run in `cwd` would.

    Raises:
        RequestError: there is none.
    """
    module, _, name = dotted.rpartition(".")
    if not module or not name:
        raise RequestError(f"study.space={dotted}: give MODULE.FUNCTION.")
    sys.path.insert(0, str(cwd))
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    finally:
        sys.path.remove(str(cwd))
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise RequestError(
            f"study.space={dotted}: there is no module '{module}' in {cwd} or among what is installed."
        )
    return Path(found.origin)


def load_function(file: Path, dotted: str) -> Callable[[Suggest], object]:
    """The space function in a file, which is read alone: it may import what is installed, not its neighbours.

    Raises:
        RequestError: the file cannot be run, or has no such function.
    """
    name = dotted.rpartition(".")[2]
    made = importlib.util.spec_from_file_location(f"gatelab_space_{abs(hash(str(file)))}", file)
    assert made is not None
    assert made.loader is not None
    module = importlib.util.module_from_spec(made)
    try:
        made.loader.exec_module(module)
    except Exception as error:
        raise RequestError(f"study.space={dotted}: {file}: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise RequestError(f"study.space={dotted}: {file} has no function '{name}'.")
    return function
