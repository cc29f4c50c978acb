"""Files that are replaced in one step, so that a reader finds the old or the new content and never a part of one.

The new content is written beside the target, by default flushed to the disk, and renamed. Whatever fails, a full
disk included, the target stays as it was and nothing else is left behind.
"""

import contextlib
import csv
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gatelab.data.messages import DataError


@contextlib.contextmanager
def atomic_file(path: Path, *, sync: bool = True, private: bool = False) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends without an error.

    sync: flush it to the disk before the rename; False where a lost or torn file is noticed and made again.
    private: nobody but its owner may read it.
    Makes the folder if there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        mode = 0o600 if private else 0o666
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            if sync:
                flush(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def flush(file: BinaryIO) -> None:
    """Bring what was written so far to the disk."""
    file.flush()
    os.fsync(file.fileno())


def atomic_write_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace the content of `path` in one step; `sync` as in `atomic_file`."""
    with atomic_file(path, sync=sync) as file:
        file.write(content)


def atomic_write_text(path: Path, content: str, *, sync: bool = True) -> None:
    """Replace the content of `path` by text in UTF-8, line ends as they are; `sync` as in `atomic_file`."""
    atomic_write_bytes(path, content.encode(), sync=sync)


def write_json(path: Path, value: Any, *, sync: bool = True, private: bool = False) -> None:
    """Replace the content of `path` by indented JSON; `sync` and `private` as in `atomic_file`."""
    with atomic_file(path, sync=sync, private=private) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, Any]], end: str = "\n") -> str:
    """Return rows as CSV with a header; None and what a row lacks are empty cells. end: of a line."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def set_aside(path: Path, kind: str = "old") -> Path:
    """Rename a file or folder to `<name>.<kind>-N`, so that nothing is lost; return its new path."""
    number = 1
    while (target := path.with_name(f"{path.name}.{kind}-{number}")).exists():
        number += 1
    return path.rename(target)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises `DataError`, naming the file, if it holds anything else, and `OSError` if it cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not text at all, or lists in lists without end
        raise DataError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a JSON object")
    return value
