"""A table with labels: a text in each row, or numeric columns whose rows belong together by an id.

CSV files are read by the rules of tables (`gatelab.data.series.table`). All errors are `DataError`s that name column
and row (counted from 1 after the header); what is wrong with the columns of words stands in one message.

Dimensions: `N` rows, `n` examples, `C` channels.
"""

import contextlib
from collections.abc import Collection, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from gatelab.data.fetch import sha256_of
from gatelab.data.labelled.examples import Labelled, Sequences
from gatelab.data.labelled.split import TRAIN, VALID, check_parts, complete_parts
from gatelab.data.labelled.texts import UNGIVEN, TextOptions, Texts, labelled_texts, refuse_empty
from gatelab.data.messages import (
    DataError,
    Problems,
    counted,
    few,
    no_column,
    refuse_lookalikes,
    shown,
    tell_twins,
)
from gatelab.data.series.calendar import read_times
from gatelab.data.series.csv_file import own_columns
from gatelab.data.series.csv_numbers import as_float, odd_words, tell_times, tell_truths
from gatelab.data.series.missing_marks import without_marks
from gatelab.data.series.table import SEPARATOR, read_frame
from gatelab.data.specs import SPLIT_NAMES, SPLITS
from gatelab.data.totals import is_total, told_lone_total

MOST: Final = 3e38
"""What a channel may hold; networks compute in 32 bits."""


class TableColumns(NamedTuple):
    """Names of columns, as in `LabelledTableDataModule`."""

    label: str
    text: str | None = None
    id: str | None = None
    time: str | None = None
    channels: list[str] | None = None
    split_column: str | None = None


def read_rows(
    file: Path, notes: list[str], words: Collection[str | None], sentences: bool, **file_format: str | None
) -> pd.DataFrame:
    """Return the table as it stands; words, sentences: columns of text, see `read_frame`; file_format: separator,
    decimal, encoding.
    """
    given = {"separator": None, "decimal": None, "encoding": None} | file_format
    text = [name for name in words if name is not None]
    frame = read_frame(
        file, notes, given["separator"], given["decimal"], given["encoding"], text=text, sentences=sentences
    )
    return frame.reset_index(drop=True)


def read_labelled_table(
    path: str, columns: TableColumns, options: TextOptions, file_format: dict[str, str | None]
) -> Labelled:
    """Return the examples of a table; `DataError` names the file."""
    file, notes = Path(path).expanduser(), list[str]()
    words = (columns.label, columns.text, columns.id, columns.split_column)
    frame = read_rows(file, notes, words, columns.text is not None, **file_format)
    problems = Problems()
    frame = _without_totals(frame, columns, problems, notes)
    where = [f"row {number}" for number in range(1, len(frame) + 1)]
    labels = problems.of(lambda: _words(frame, "label", columns.label)) or []
    problems.of(lambda: refuse_lookalikes(f"classes in column {columns.label!r},", dict.fromkeys(labels)))
    parts = problems.of(lambda: _parts(frame, columns.split_column))
    texts = [] if columns.text is None else problems.of(lambda: column_of(frame, "text", columns.text or ""))
    problems.of(lambda: refuse_empty(texts or [], where[: len(texts or [])]))
    try:
        problems.refuse()
        tell_twins(f"classes in column {columns.label!r}", dict.fromkeys(labels), notes)
        assert parts is not None
        assert texts is not None
        fingerprint = {file.name: sha256_of(file)}
        if columns.text is not None:
            raw = Texts(texts, labels, parts.tolist(), where, (), fingerprint, notes)
            return labelled_texts(raw, options)
        return _series(frame, columns, labels, parts, options, fingerprint, notes)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None


def _without_totals(
    frame: pd.DataFrame, columns: TableColumns, problems: Problems, notes: list[str]
) -> pd.DataFrame:
    """The rows above those that sum them up, which are problems; noted where the label is one of the others."""
    below = sum(1 for _ in takewhile(is_total, (frame.iloc[n] for n in range(len(frame) - 1, -1, -1))))
    rows = frame.iloc[: len(frame) - below]
    for place, cells in zip(range(len(rows), len(frame)), frame.iloc[len(rows) :].to_numpy(), strict=True):
        told = f"row {place + 1} ({', '.join(shown(c) for c in cells if c is not None and c == c)})"
        if columns.label in frame and frame[columns.label].iloc[place] in set(rows[columns.label]):
            notes.append(f"{told} is read as an example; remove it if it sums up the rows above")
            return frame
        problems.append(f"{told} sums up the rows above it and is no example; remove it")
    labels = rows[columns.label].tolist() if columns.label in rows else []
    if labels and labels[-1] not in (None, *labels[:-1]) and len(set(labels)) < len(labels):
        notes.append(f"row {len(labels)} alone has the label {labels[-1]!r}; remove it if it is no example")
    return rows


def column_of(frame: pd.DataFrame, key: str, name: str) -> list[str]:
    """Return a column as text, empty where a cell is empty."""
    _known(frame, key, name)
    return [value or "" for value in frame[name]]


def _known(frame: pd.DataFrame, key: str, name: str) -> None:
    if name not in frame:
        raise DataError(no_column(f"data.{key}", name, list(frame.columns), SEPARATOR))


def _words(frame: pd.DataFrame, key: str, name: str) -> list[str]:
    """Return a column whose cells must not be empty, without space around them."""
    words = [word.strip() for word in column_of(frame, key, name)]
    if empty := [f"row {i}" for i, word in enumerate(words, 1) if not word]:
        raise DataError(
            f"column {name!r} is empty in {few(empty)}; fill it in, or remove the row{'s' * (len(empty) > 1)}"
        )
    return words


def _parts(frame: pd.DataFrame, name: str | None) -> np.ndarray:
    """Return the part that a column names for each row, all -1 without one."""
    if name is None:
        return np.full(len(frame), UNGIVEN, dtype=np.int8)
    words = [word.lower() for word in _words(frame, "split_column", name)]
    for row, word in enumerate(words, 1):
        if word not in SPLIT_NAMES:
            raise DataError(f"column {name!r}, row {row}: {word!r} is no split; write train, valid or test")
    parts = np.array([SPLITS.index(SPLIT_NAMES[word]) for word in words], dtype=np.int8)
    if not (parts == VALID).any():  # some of train will validate
        parts[parts == TRAIN] = UNGIVEN
    return parts


class _Series(NamedTuple):
    """Sequences of rows `[n]`: their ids, their first rows, and which row is of which `[N]`."""

    ids: list[str]
    first: np.ndarray
    owner: np.ndarray
    sequences: Sequences


def _channel(frame: pd.DataFrame, name: str, otherwise: str) -> np.ndarray:
    """Return a column of numbers `[N]`; otherwise: what else than mending it may be done about one that is none."""
    _known(frame, "channels", name)
    numbers, text = as_float(frame[name])
    if text.any():
        row = int(text.argmax())
        raise DataError(
            f"column {name!r}, row {row + 1}: {shown(frame[name].iloc[row])} is no number; write numbers{otherwise}"
        )
    if (missing := np.isnan(numbers)).any():
        rows = [f"row {i + 1}" for i in np.flatnonzero(missing)]
        raise DataError(
            f"column {name!r} is empty in {few(rows)}; fill it in, or remove the row{'s' * (len(rows) > 1)}{otherwise}"
        )
    if not (inside := np.abs(numbers) < MOST).all():
        row = int((~inside).argmax())
        raise DataError(f"column {name!r}, row {row + 1}: {numbers[row]} is no number below 3e38; correct it")
    return numbers


def series_of(
    frame: pd.DataFrame,
    id: str,
    time: str | None,
    channels: Sequence[str],
    notes: list[str],
    otherwise: str = "",
) -> _Series:
    """Return the rows of each id, in order of `time` or as they come, ids in order of their first row.

    notes: what was found out about the channels is added. otherwise: see `_channel`.
    """
    names = _words(frame, "id", id)
    if told := told_lone_total(np.array(names, object)):
        raise DataError(f"row {len(names)}: {told}")
    refuse_lookalikes(f"ids in column {id!r},", dict.fromkeys(names))
    tell_twins(f"ids in column {id!r}", dict.fromkeys(names), notes)
    owner, ids = pd.factorize(np.array(names))
    problems = Problems()
    columns = [problems.of(partial(_channel, frame, name, otherwise)) for name in channels]
    problems.refuse()
    values = np.stack([column for column in columns if column is not None], axis=1)
    tell_truths(frame, channels, notes)
    tell_times(frame, channels if time is None else [], notes)
    without_marks(pd.DataFrame(values, columns=list(channels)), None, notes, "empty these cells")
    order = np.argsort(owner, kind="stable")
    if time is not None:
        _known(frame, "time", time)
        stamps = frame[time]
        if not pd.api.types.is_numeric_dtype(stamps) or stamps.isna().any():
            stamps = read_times(stamps, []).times
        order = np.lexsort((stamps.to_numpy(), owner))
        same = (np.diff(owner[order]) == 0) & (np.diff(pd.factorize(stamps)[0][order]) == 0)
        if same.any():
            a, b = order[np.argmax(same)], order[np.argmax(same) + 1]
            raise DataError(
                f"{id} {names[a]!r}: rows {min(a, b) + 1} and {max(a, b) + 1} have the same {time}; remove one"
            )
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner))]).astype(np.int64)
    first = np.unique(owner, return_index=True)[1]
    return _Series([str(name) for name in ids], first, owner, Sequences(values[order], starts))


def numeric_columns(frame: pd.DataFrame, others: Sequence[str | None], notes: list[str]) -> list[str]:
    """Return the columns of numbers that have no other meaning, and of those that mostly are; what is left out is told.

    Raises:
        DataError: there is none.
    """
    own = own_columns(frame, [c for c in frame.columns if c not in others], notes)
    words = {c: frame[c][text] for c in own if (text := as_float(frame[c])[1]).any()}
    left = [c for c, cells in words.items() if not _mostly_numbers(frame[c])]
    if left:
        notes.append(f"left out, without numbers: {few([repr(c) for c in left], 8)}")
    if not (channels := [c for c in own if c not in left]):
        raise DataError("no column holds numbers beside those with another meaning; add one")
    return channels


def _mostly_numbers(cells: pd.Series) -> bool:
    """Whether most of the different cells of a column are numbers, plain or with a sign around them."""
    words = cells.dropna()
    with contextlib.suppress(TypeError):  # lists
        return bool(odd_words(words.drop_duplicates()).any())
    return False


def _series(
    frame: pd.DataFrame,
    columns: TableColumns,
    labels: list[str],
    parts: np.ndarray,
    options: TextOptions,
    fingerprint: dict[str, str],
    notes: list[str],
) -> Labelled:
    """Return one example for each id, standardised by the rows that train."""
    assert columns.id is not None
    others = (columns.id, columns.time, columns.label, columns.split_column)
    channels = columns.channels or numeric_columns(frame, others, notes)
    series = series_of(
        frame,
        columns.id,
        columns.time,
        channels,
        notes,
        ", or choose other channels with data.channels=[...]",
    )
    splits = [SPLITS[part] if part != UNGIVEN else "train" for part in parts]
    for name, key, values in (("label", columns.label, labels), ("split", columns.split_column, splits)):
        codes = pd.factorize(np.array(values))[0]
        changed = np.flatnonzero(codes != codes[series.first][series.owner])
        if len(changed):
            row, of = int(changed[0]), int(series.owner[changed[0]])
            raise DataError(
                f"{columns.id} {series.ids[of]!r}: its {name} ({key}) changes, from {values[series.first[of]]!r} in "
                f"row {series.first[of] + 1} to {values[row]!r} in row {row + 1}; an id is one example with one {name}"
            )
    classes = sorted(set(labels))
    numbers = np.array([classes.index(labels[row]) for row in series.first], dtype=np.int64)
    chosen = complete_parts(
        numbers,
        parts[series.first],
        options.split,
        options.folds,
        options.fold,
        options.data_seed,
        notes,
        options.train_examples,
    )
    check_parts(numbers, chosen, classes, [f"{columns.id} {name!r}" for name in series.ids], notes)
    sequences = series.sequences
    if options.max_length is not None and (long := sequences.lengths > options.max_length).any():
        notes.append(
            f"{counted(int(long.sum()), 'sequence')} of more than {options.max_length} steps cut there"
        )
        sequences = first_steps(sequences, options.max_length)
    trained = sequences.take(np.flatnonzero(chosen == TRAIN)).values.astype(np.float64)
    # rounding leaves a constant a tiny one
    std = np.where(trained.min(0) == trained.max(0), 0.0, trained.std(0))
    if constant := [name for name, one in zip(channels, std, strict=True) if one == 0]:
        notes.append(f"constant in training: {few(constant)}")
    return Labelled(
        sequences,
        numbers,
        chosen,
        classes,
        channels=channels,
        mean=trained.mean(0).tolist(),
        std=np.where(std > 0, std, 1.0).tolist(),
        fingerprint=fingerprint,
        notes=notes,
    )


def first_steps(sequences: Sequences, most: int) -> Sequences:
    """Return sequences cut after `most` steps."""
    ends = zip(sequences.starts[:-1], sequences.lengths, strict=True)
    return Sequences.of([sequences.values[start : start + min(length, most)] for start, length in ends])
