"""A cache on disk of results that follow from the data and take long to make: parsed tables, token ids, baselines.

A sweep starts hundreds of runs that read the same data; the result of the first is found by the others in
`<cache>/derived/<sha256 of the key>`. Keys cover the sha256 of every source file, every option, the versions of the
libraries, and the text of this ring's own code as it was when this process read it, so entries never go stale.
Checksums detect corruption: an entry that is torn, altered or of another format is made again. Entries are NumPy
archives without pickle; beyond `LIMIT` bytes the least recently used ones are removed. A cache that cannot be read
or written is not an error. `GATELAB_DERIVED=off` switches it off.

Arrays that may be larger than memory (token ids) have files of their own, in `<cache>/tokens`, which are written in
parts and mapped (`mapped`). One of another length or checksum is made again like any other entry.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import torch
from filelock import FileLock

from gatelab.data.fetch import cache_folder
from gatelab.data.files import atomic_file, atomic_write_bytes

LIMIT: Final = 1 << 30
"""Bytes that all entries of one cache may take."""
MAPPED_LIMIT: Final = 16 << 30
"""Bytes that all mapped files of one cache may take; the newest is kept whatever its size."""
_FACTS: Final = "__facts__"
_DIGEST: Final = 32  # bytes of a sha256
_LIBRARIES: Final = ("numpy", "pandas", "tokenizers")


class CacheEntry(NamedTuple):
    """Arrays by name, and plain data that JSON gives back as it was."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


def _own_code() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _own_makers() -> dict[str, str]:
    """The code, Python, libraries and kind of processor (last bits of sums) that results come from."""
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"code": _own_code(), "python": platform.python_version(), "processor": processor, **libraries}


# at import, not at first use: a process that lives for days must not sign its results with code that came later
_MAKERS: Final = _own_makers()


def cached(
    folder: str | Path | None, key: Callable[[], Mapping[str, Any]], make: Callable[[], CacheEntry]
) -> CacheEntry:
    """Return the entry under a key; without one, make and write it.

    folder: the cache (None: `default_cache()`). key: returns JSON data that names every source by its sha256 and every
    option; it is asked again after `make`, and the result is kept only if no source changed meanwhile.
    What `make` raises is raised, and nothing kept. The arrays are read-only and laid out in memory as they were made;
    made or found, the caller gets the same.
    """
    if _switched_off():
        return _decoded(_encode(make()))
    place = cache_folder(folder) / "derived"
    asked = _digest(key())
    path = place / asked
    with contextlib.suppress(OSError):
        if (found := _decode(path.read_bytes())) is not None:
            with contextlib.suppress(OSError):
                os.utime(path)
            return found
    made = _encode(make())
    if _digest(key()) == asked:
        with contextlib.suppress(OSError):
            if len(made) <= LIMIT:
                atomic_write_bytes(path, made, sync=False)  # a torn entry is noticed and made again
            _prune(place, LIMIT)
    return _decoded(made)


def _switched_off() -> bool:
    return os.environ.get("GATELAB_DERIVED", "").lower() in ("off", "0", "false")


class MappedEntry(NamedTuple):
    """Arrays by name, each mapped from a file; plain data; and the sha256 of all of it."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]
    sha256: str


class ArrayWriter:
    """Writes arrays of one dimension behind each other, then the facts, their length and the sha256 of everything."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest, self._at = file, hashlib.sha256(), 0
        self._layout: dict[str, list[Any]] = {}

    def _write(self, raw: bytes) -> None:
        self._file.write(raw)
        self._digest.update(raw)

    def add(self, name: str, dtype: np.dtype, parts: Iterable[np.ndarray]) -> int:
        """Append the parts to the array `name`, which must be the last so far; return the elements appended."""
        entry = self._layout.setdefault(name, [dtype.newbyteorder("<").str, self._at, 0])
        before = entry[2]
        for part in parts:
            self._write(np.asarray(part, entry[0]).tobytes())
            entry[2] += len(part)
            self._at += len(part) * dtype.itemsize
        return entry[2] - before

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write what makes the file whole."""
        end = json.dumps({"layout": self._layout, "facts": facts}).encode()
        self._write(end)
        self._write(len(end).to_bytes(8, "little"))
        self._file.write(self._digest.digest())
        self._file.flush()


def mapped(
    folder: str | Path | None,
    key: Callable[[], Mapping[str, Any]],
    make: Callable[[ArrayWriter], Mapping[str, Any]],
) -> MappedEntry:
    """Return the arrays and facts under a key, mapped from their file; without one, have `make` write it.

    `make` adds the arrays to the writer and returns the facts; one process at a time makes an entry. The rest is as in
    `cached`. Without a cache that can be written, the file is a temporary one without a name.
    """
    if not _switched_off():
        place = cache_folder(folder) / "tokens"
        asked = _digest(key())
        path = place / asked
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                found = _map(path)
                if found is None:
                    with atomic_file(path, sync=False) as file:
                        _make(file, make)
                    found = _map(path)
                    if _digest(key()) != asked:  # a source changed meanwhile: for this process alone
                        path.unlink()
                    _prune(place, MAPPED_LIMIT, keep=path)
                else:
                    os.utime(path)
            if found is not None:
                return found
    with tempfile.TemporaryFile() as unnamed:
        _make(unnamed, make)
        found = _map(unnamed)
    assert found is not None
    return found


def _make(file: Any, make: Callable[[ArrayWriter], Mapping[str, Any]]) -> None:
    writer = ArrayWriter(file)
    writer.finish(make(writer))


def _map(source: Path | Any) -> MappedEntry | None:
    """Map what an `ArrayWriter` has written; None if there is no file or these are not its bytes."""
    if isinstance(source, Path):
        if not source.is_file():
            return None
        with source.open("rb") as file:
            return _map(file)
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    digest, left, block = hashlib.sha256(), size - _DIGEST, b""
    while left > 0 and (block := source.read(min(1 << 20, left))):
        digest.update(block)
        left -= len(block)
    if source.read() != digest.digest():
        return None
    source.seek(size - _DIGEST - 8)
    length = int.from_bytes(source.read(8), "little")
    source.seek(size - _DIGEST - 8 - length)
    end = json.loads(source.read(length))
    arrays: dict[str, np.ndarray] = {
        # "c": private and writable, as torch wants it; nobody writes
        name: np.memmap(source, dtype, "c", offset, (count,)) if count else np.zeros(0, dtype)
        for name, (dtype, offset, count) in end["layout"].items()
    }
    return MappedEntry(arrays, end["facts"], digest.hexdigest())


def sha256_of_array(array: np.ndarray) -> str:
    """Return the sha256 of an array's bytes, type and shape, for a key."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _digest(key: Mapping[str, Any]) -> str:
    whole = {"key": key, "makers": _MAKERS}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _encode(entry: CacheEntry) -> bytes:
    """The sha256 of the rest, then NumPy's archive of the arrays and of the facts as JSON (it keeps their layout)."""
    rest = io.BytesIO()
    facts = np.frombuffer(json.dumps(entry.facts).encode(), np.uint8)
    np.savez(rest, allow_pickle=False, **entry.arrays, **{_FACTS: facts})
    return hashlib.sha256(rest.getbuffer()).digest() + rest.getvalue()


def _decode(raw: bytes) -> CacheEntry | None:
    """Return what `_encode` was given, or None if these are not its bytes."""
    digest = hashlib.sha256(memoryview(raw)[_DIGEST:]).digest()
    return _decoded(raw) if raw[:_DIGEST] == digest else None


def _decoded(raw: bytes) -> CacheEntry:
    with np.load(io.BytesIO(memoryview(raw)[_DIGEST:])) as archive:
        arrays = dict(archive)
    for array in arrays.values():
        array.setflags(write=False)
    return CacheEntry(arrays, json.loads(arrays.pop(_FACTS).tobytes()))


def _prune(place: Path, limit: int, keep: Path | None = None) -> None:
    """Remove the entries that were not used for longest, but `keep`, until the rest takes at most `limit` bytes."""
    files = [file for file in place.iterdir() if file != keep and file.suffix != ".lock"]
    entries = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in files)
    excess = sum(size for _, size, _ in entries) - limit
    for _, size, file in entries:
        if excess <= 0:
            return
        file.unlink(missing_ok=True)
        excess -= size
