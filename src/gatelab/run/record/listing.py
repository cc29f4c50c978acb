"""Many runs as rows: facts, what differs between them, filters, order. A view over `run.json` and `result.json`.

A row has the facts of `FACTS`, the resolved configuration as `config` (dotted keys; `model._target_` is called `model`
and is the class' own name), the scores as `scores` (`valid.bpc`, `test.ppl`). A key of a filter or an order is any of
these; of a configuration key the last parts suffice where they are unique: `hidden_size` for `model.hidden_size`.
"""

from __future__ import annotations

import fnmatch
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gatelab.data.messages import did_you_mean
from gatelab.run import RequestError
from gatelab.run.record.directory import UNREADABLE, RunDirectory
from gatelab.run.record.find import default_runs, find_run, has, runs_below
from gatelab.run.record.identity import LEFT_OUT_OF

Row = dict[str, Any]
FACTS = (
    *("run_dir", "name", "hash", "seed", "state", "started", "study", "tags", "note"),
    *("metric", "value", "parameters", "seconds"),
)
"""run_dir; name, hash, seed: its identity; state: as `RunDirectory.state`, or `unreadable`; started: of the first
attempt, UTC; study: names of the studies that hold it; metric, value: the monitored one on the validation split, of a
pruned run the best so far; parameters; seconds: of training."""
NOT_OF_THE_RUN = ("paths", "logger", "name", "test", "tags", "note", "threads", "seed")
GROUPS = ("model", "optim", "schedule", "task", "data", "trainer", "callbacks")
"""In the order in which one is asked for the name of a difference."""
CONDITION = re.compile(r"\s*([\w./@-]+?)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*")
SEVERAL = re.compile(r"(\s(and|or)\s|[&|,]).*[<>=]", re.IGNORECASE)
"""A second condition within the value of one."""
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def list_runs(*places: str | Path) -> list[Row]:
    """A row for each run in the places, by name; one that cannot be read is listed as `unreadable`.

    Args:
        places: run directories or unique beginnings of them, names, folders of runs, or folders with a `runs/`.

    Raises:
        RequestError: a place is neither.
    """
    found: dict[Path, None] = {}
    for place in places:
        found |= dict.fromkeys(_runs_in(place))
    return [_row(RunDirectory(path)) for path in found]


def _runs_in(place: str | Path) -> list[Path]:
    named = default_runs() / place
    path = Path(place) if Path(place).exists() else named if named.is_dir() else find_run(place)
    if has(path, "run.json"):
        return [path]
    return runs_below(path)


def _row(run: RunDirectory) -> Row:
    hash8, _, seed = run.path.name.partition("-s")
    row: Row = {**dict.fromkeys(FACTS), "run_dir": str(run.path), "state": "unreadable", "tags": []}
    row |= {"name": run.path.parent.name, "hash": hash8, "study": [], "config": {}, "scores": {}}
    row["seed"] = int(seed) if seed.isdigit() else None
    empty = dict(row)
    try:
        record, result = run.read(), run.result()
        config = record["config"]
        row |= {"started": str(record["attempts"][0]["started"]), "seed": config.get("seed", row["seed"])}
        row |= {"tags": list(config.get("tags") or ()), "note": config.get("note")}
        row["config"] = readable({k: v for k, v in config.items() if k not in NOT_OF_THE_RUN})
        if result is not None and result["outcome"] in ("done", "pruned"):
            scores = {split: report["metrics"] for split, report in result["splits"].items()}
            row["scores"] = readable(scores)
            metric = str(result["monitor"])
            value = scores.get("valid", {}).get(metric.removeprefix("val/"), result.get("best"))
            row |= {"metric": metric, "value": None if value is None else float(value)}
            row |= {"parameters": int(result["parameters"]), "seconds": float(result["seconds"]["fit"])}
        row["state"] = run.state()
    except UNREADABLE:
        return empty
    return row


def readable(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration with dotted keys; `model._target_` is called `model`, by the class' own name."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= readable(value, f"{prefix}{key}.")
        elif key == "_target_":
            found[prefix.rstrip(".")] = str(value).rpartition(".")[2]
        elif not str(key).startswith("_"):
            found[f"{prefix}{key}"] = value
    return found


def differences(rows: Sequence[Row]) -> list[str]:
    """The configuration keys that differ between the rows; of several that part them alike, the first in `GROUPS`.

    Seeds are left out, the keys that follow a seed too.
    """
    rows = [row for row in rows if row["state"] != "unreadable"]
    seeds = [row["seed"] for row in rows]
    return parting_keys(
        [row["config"] for row in rows], lambda key: key.endswith(".seed") or left_out(key), seeds
    )


def parting_keys(
    points: Sequence[Mapping[str, Any]], left_out: Callable[[str], bool], known: Sequence[Any] = ()
) -> list[str]:
    """The keys whose values differ between the points; of several that part them alike, the first in `GROUPS`.

    Args:
        points: dotted key -> value.
        left_out: whether a key is passed over.
        known: a value for each point; keys that part the points as these do are passed over.
    """
    rank = {group: place for place, group in enumerate(GROUPS)}
    keys = dict.fromkeys(key for point in points for key in point)
    kept: dict[tuple[int, ...], str] = {_parting(known): ""} if known else {}
    for key in sorted(keys, key=lambda key: rank.get(key.partition(".")[0], len(rank))):
        parting = _parting([point.get(key) for point in points])
        if len(set(parting)) > 1 and not left_out(key):
            kept.setdefault(parting, key)
    return [key for key in kept.values() if key]


def left_out(key: str) -> bool:
    """Whether a key cannot change what comes out."""
    return any(key.startswith(f"{group}.{name}") for group, names in LEFT_OUT_OF.items() for name in names)


def _parting(values: Sequence[Any]) -> tuple[int, ...]:
    """Which rows have the same value: the same number for each, from 0 in the order of appearance."""
    numbers: dict[str, int] = {}
    return tuple(numbers.setdefault(repr(value), len(numbers)) for value in values)


def select(
    rows: Sequence[Row],
    *,
    where: str | Iterable[str] = (),
    tags: str | Iterable[str] = (),
    state: str | None = None,
    name: str | None = None,
) -> list[Row]:
    """The rows that meet every condition.

    Args:
        where: conditions `KEY OP VALUE` with OP one of `= != < <= > >=`, e.g. `model.hidden_size>=64`. Text is
            compared without regard to case; a row that lacks the key meets `!=` only.
        tags: each must be among the row's.
        state: as `RunDirectory.state`.
        name: of the run, with `*` and `?`, or the beginning of it or of the hash.

    Raises:
        RequestError: a condition that cannot be read, or a key that no row has.
    """
    where, tags = ([given] if isinstance(given, str) else given for given in (where, tags))
    found = list(rows)
    if state is not None:
        states = sorted({row["state"] for row in rows})
        if rows and state not in states:
            raise RequestError(f"--state {state}: no run is. There are: {', '.join(states)}.")
        found = [row for row in found if row["state"] == state]
    for tag in tags:
        found = [row for row in found if tag in row["tags"]]
    if name is not None:
        found = [r for r in found if fnmatch.fnmatch(r["name"], name) or f"{r['name']}/".startswith(name)]
    for text in where:
        if not (match := CONDITION.fullmatch(text)):
            raise RequestError(f"--where '{text}': write KEY=VALUE, KEY!=VALUE, KEY<VALUE or KEY>=VALUE.")
        if SEVERAL.search(match[3]):
            raise RequestError(
                f"--where '{text}': one condition each; --where A --where B is both (in Python where=[A, B])."
            )
        key, wanted = resolved_key(match[1], rows), _value(match[3])
        if match[2] in OPERATORS and not _ordered([value_of(row, key) for row in rows], wanted):
            raise RequestError(f"--where '{text}': no run's {key} can be compared with {match[3]!r}.")
        found = [row for row in found if _meets(value_of(row, key), match[2], wanted)]
    return found


def order(rows: Sequence[Row], key: str = "started", *, last: int | None = None) -> list[Row]:
    """The rows by a key, rows without it last; with a minus before the key the largest first.

    Args:
        last: only so many, those that were started last.
    """
    if last is not None:
        started = sorted(rows, key=lambda row: str(row["started"] or ""))
        kept = {row["run_dir"] for row in started[max(0, len(started) - last) :]}
        rows = [row for row in rows if row["run_dir"] in kept]
    name = resolved_key(key.removeprefix("-"), rows)
    having = [row for row in rows if _present(value_of(row, name))]
    missing = [row for row in rows if not _present(value_of(row, name))]
    return [
        *sorted(having, key=lambda row: _rank(value_of(row, name)), reverse=key.startswith("-")),
        *missing,
    ]


def resolved_key(key: str, rows: Sequence[Row]) -> str:
    """The whole key that `key` means: a fact, a score, or a configuration key by its unique last parts.

    Raises:
        RequestError: no row has it, or several keys end so.
    """
    key = re.sub(r"^(?:val/|valid/|val\.)", "valid.", key).replace("test/", "test.")
    known = dict.fromkeys([*FACTS, *(k for row in rows for k in (*row["config"], *row["scores"]))])
    if key in known or not rows:
        return key
    ends = [other.rpartition(".")[2] for other in known]
    ending = [other for other in known if other.endswith(f".{key}")]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise RequestError(f"{key}: several keys end so: {', '.join(ending[:8])}.")
    raise RequestError(f"{key}: no run has such a key.{did_you_mean(key, [*known, *ends])}")


def value_of(row: Row, key: str) -> Any:
    """The fact, score or configuration value of a row; None if it has none."""
    return row[key] if key in FACTS else row["scores"].get(key, row["config"].get(key))


def _present(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _rank(value: Any) -> tuple[bool, Any]:
    number = isinstance(value, int | float)
    return not number, value if number else str(value).lower()


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    return value if value is None or isinstance(value, bool | list) else text.strip("'\"")


def _ordered(values: Sequence[Any], wanted: Any) -> bool:
    """Whether `<` can be asked of one of the values at least; of none where all lack one."""
    having = [value for value in values if _present(value)]
    return not having or any(_comparable(value, wanted) for value in having)


def _comparable(value: Any, wanted: Any) -> bool:
    numbers = [isinstance(x, int | float) and not isinstance(x, bool) for x in (value, wanted)]
    return numbers[0] == numbers[1] and not isinstance(value, bool | list)


def _meets(value: Any, sign: str, wanted: Any) -> bool:
    if isinstance(value, list) and not isinstance(wanted, list):  # tags, study, target
        inside = str(wanted).lower() in [str(item).lower() for item in value]
        return inside == (sign in ("=", "==")) if sign in ("=", "==", "!=") else False
    numbers = [isinstance(x, int | float) and not isinstance(x, bool) for x in (value, wanted)]
    if sign in ("=", "==", "!="):
        same = value == wanted if all(numbers) else str(value).lower() == str(wanted).lower()
        return bool(same) == (sign != "!=")
    if not _present(value) or not _comparable(value, wanted):
        return False
    pair = (value, wanted) if all(numbers) else (str(value).lower(), str(wanted).lower())
    return OPERATORS[sign](*pair)
