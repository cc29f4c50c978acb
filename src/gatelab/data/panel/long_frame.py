"""Reads the files of a panel into one long frame: a row for each series and time.

A file, a pattern (`sales/*.parquet`) or a folder, whose folders may be parts (`sales/region=north/part-0.parquet`: the
column `region` holds `north`, always text). Each file is read by the rules of tables (table.py, csv_file.py).

All errors are `DataError`s that name file and row (counted from 1 after the header).
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote

import numpy as np
import pandas as pd

from gatelab.data.fetch import sha256_of
from gatelab.data.files import files_of
from gatelab.data.messages import NO_HEADER, DataError, counted, few
from gatelab.data.series.table import CSV, PARQUET, read_frame

_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
"""How writers of parts name the folder of missing values."""
_MOST: Final = 3
"""Rows that a message lists."""


class LongFrame(NamedTuple):
    """The rows of all files below each other, and the row at which each file begins."""

    frame: pd.DataFrame
    files: tuple[Path, ...]
    begins: np.ndarray

    def rows(self, places: Sequence[int] | np.ndarray) -> str:
        """Name rows of the frame as their reader counts them, `rows 3, 7`, with the file if there are several."""
        shown = np.asarray(places)[:_MOST]
        files = np.searchsorted(self.begins, shown, side="right") - 1
        numbers = [f"{place - self.begins[file] + 1}" for place, file in zip(shown, files, strict=True)]
        if len(self.files) > 1:
            numbers = [f"{self.files[f].name}:{n}" for f, n in zip(files, numbers, strict=True)]
        more = f" and {len(places) - _MOST:,} more" if len(places) > _MOST else ""
        return f"row{'s' * (len(places) != 1)} {', '.join(numbers)}{more}"


def panel_files(path: str) -> list[Path]:
    """Return the files that a path, a pattern or a folder stands for, in order of their names."""
    place = Path(path).expanduser()
    if place.is_file():
        return [place]
    if place.is_dir():
        found = [file for file in files_of("data.path", path) if file.name.lower().endswith(CSV + PARQUET)]
        found = [file for file in found if not any(p[0] == "_" for p in file.relative_to(place).parts)]
        why = f"the folder holds no file named {', '.join(CSV + PARQUET)}"
    else:
        found = files_of("data.path", path)
        why = f"there is no such file (looked in {Path.cwd()})"
    if not found:
        raise DataError(f"data.path={path}: {why}")
    return found


def fingerprint(path: str) -> dict[str, str]:
    """Return the sha256 of each file, by its path below the folder that is named."""
    place = Path(path).expanduser()
    return {
        (file.relative_to(place).as_posix() if place.is_dir() else file.name): sha256_of(file)
        for file in panel_files(path)
    }


def read_long_frame(
    path: str, notes: list[str], file_format: Mapping[str, str | None], text: Collection[str] = ()
) -> LongFrame:
    """Return the rows of all files; `DataError` where one has other columns than the first.

    text: columns of ids and categories, which are read as they stand, without space around them.
    """
    files, place = panel_files(path), Path(path).expanduser()
    frames, notes_of = list[pd.DataFrame](), dict[str, list[str]]()
    for file in files:
        told: list[str] = []
        given = {name: file_format.get(name) for name in ("separator", "decimal", "encoding")}
        frame = read_frame(file, told, given["separator"], given["decimal"], given["encoding"], text=text)
        for name in frame.columns.intersection(list(text)):
            frame[name] = frame[name].str.strip()
        parts = file.relative_to(place).parts[:-1] if place.is_dir() else ()
        for name, _, value in (part.partition("=") for part in parts if "=" in part):
            part = None if value == _NO_VALUE else unquote(value)
            if name in frame and (other := frame[name].astype(str) != str(part)).any():
                at = int(other.to_numpy().argmax())
                raise DataError(
                    f"{file}: column {name!r} holds {frame[name].iloc[at]!r} in row {at + 1}, and the folder is called "
                    f"{name}={value}; rename the folder, or leave the column out"
                )
            frame[name] = part
        for note in told:
            notes_of.setdefault(note, []).append(file.name)
        if frames and set(frame.columns) != set(frames[0].columns):
            odd = sorted(set(frame.columns) ^ set(frames[0].columns))
            raise DataError(
                f"{file}: {files[0].name} and this file do not have the same columns ({few(odd)}); one panel, one set "
                f"of columns; {NO_HEADER}"
            )
        frames.append(frame)
    for note, names in notes_of.items():
        notes.append(note if len(names) == len(files) else f"{few(names)}: {note}")
    if len(files) > 1:
        notes.append(f"{counted(len(files), 'file')} read as one panel")
    begins = np.cumsum([0, *(len(frame) for frame in frames[:-1])])
    whole = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    return LongFrame(whole.reset_index(drop=True), tuple(files), begins)
