"""Files that a path or a pattern names, and files that are replaced in one step.

A reader of a replaced file finds the old or the new content and never a part of one: the new content is written beside
the target, by default flushed to the disk, and renamed. Whatever fails, a full disk included, the target stays as it
was and nothing else is left behind.
"""

import contextlib
import csv
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, Final

from gatelab.data.messages import DataError

WILD: Final = "*?["
MOST_ENTRIES: Final = 250_000
"""Files and folders that are looked at for one path; twice those of Speech Commands."""


def files_of(key: str, name: str | Path) -> list[Path]:
    """The files in a folder and below it, or those that a pattern matches; hidden ones are left out.

    A pattern is that of a shell, `**` is any number of folders. A link to a folder is followed where a pattern names
    its level, not below a folder or `**`: it may lead to what it stands in. Folders that cannot be read have no files.

    Raises `DataError` with `key` where it would begin at the root of the disk, as `/**` does, or look at more than
    `MOST_ENTRIES` files and folders, and for a link to a file that is not there.
    """
    looked = 0

    def inside(folder: Path, pattern: str) -> Iterator[os.DirEntry[str]]:
        nonlocal looked
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                looked += 1
                if looked > MOST_ENTRIES:
                    raise DataError(
                        f"{key}={name}: more than {MOST_ENTRIES:,} files and folders would be looked through; name a "
                        "folder or a pattern of the data alone"
                    )
                if fnmatchcase(entry.name, pattern) and (entry.name[0] != "." or pattern[0] == "."):
                    yield entry

    def below(folder: Path) -> Iterator[Path]:
        waiting = [folder]
        while waiting:
            yield (here := waiting.pop())
            waiting += (Path(e.path) for e in inside(here, "*") if e.is_dir(follow_symlinks=False))

    def folders(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        if not parts:
            yield folder
        elif parts[0] == "**":
            for found in below(folder):
                yield from folders(found, parts[1:])
        elif _is_wild(parts[0]):
            for entry in inside(folder, parts[0]):
                if _is(entry.is_dir):
                    yield from folders(Path(entry.path), parts[1:])
        else:
            yield from folders(folder / parts[0], parts[1:])

    place = Path(name).expanduser()
    start, parts = (place, ("**", "*")) if place.is_dir() else (Path(), place.parts)
    parts = (*parts, "*") if parts[-1] == "**" else parts
    literal = list(takewhile(lambda part: not _is_wild(part), parts[:-1]))
    top = (start / Path(*literal)).resolve()
    if top == top.parent and len(literal) < len(parts) - 1:
        raise DataError(
            f"{key}={name}: begins at the root of the disk; name a folder or a pattern of the data alone"
        )
    found = [entry for folder in folders(start, parts[:-1]) for entry in inside(folder, parts[-1])]
    if broken := [entry.path for entry in found if entry.is_symlink() and not os.path.exists(entry.path)]:
        raise DataError(
            f"{key}={name}: the link {min(broken)} leads to no file that is there; mend or remove it"
        )
    return sorted({Path(entry.path) for entry in found if _is(entry.is_file)})


def _is_wild(part: str) -> bool:
    return any(mark in part for mark in WILD)


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry is of a kind; one that may not be looked at is of none."""
    try:
        return kind()
    except OSError:
        return False


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


def atomic_write_text(path: Path, content: str) -> None:
    """Replace the content of `path` by text in UTF-8, line ends as they are."""
    atomic_write_bytes(path, content.encode())


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """Replace the content of `path` by indented JSON; `private` as in `atomic_file`."""
    with atomic_file(path, private=private) as file:
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
