"""Gets a published file: from a mirror folder, else the cache, else its URL; always with the published bytes.

A mirror holds `<data set>/<file name>`, e.g. `ptb/ptb.train.txt`. It is for machines without a network and for
tests; a mirror file with other bytes is an error, never a reason to look elsewhere. Downloads are locked (two
runs may start at the same moment), written beside their target and renamed only when their sha256 is right, so
no half file is ever found.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pooch
from filelock import FileLock
from tqdm import tqdm

from gatelab.data.messages import FetchError
from gatelab.data.sources import SOURCES, Source


class Fetched(NamedTuple):
    """Where the file lies and the sha256 that was checked just now."""

    path: Path
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_cache() -> Path:
    """Return the folder for downloads: `GATELAB_CACHE`, else the user's cache folder of this platform."""
    return Path(os.environ.get("GATELAB_CACHE") or pooch.os_cache("gatelab"))


def fetch(
    name: str,
    *,
    mirror: str | Path | None = None,
    cache: str | Path | None = None,
    source: Source | None = None,
) -> Fetched:
    """Return the file `name` (`<data set>/<file name>`) with its published bytes.

    mirror: folder to look in first; None: the environment variable `GATELAB_DATA_MIRROR`, if set.
    cache: folder of earlier downloads; None: `default_cache()`. source: None: the entry of `name` in
    sources.py. Raises `FetchError` naming the file or URL, and for wrong bytes the expected and the found
    sha256.
    """
    if source is None:
        if name not in SOURCES:
            raise FetchError(f"{name}: not a known file; known are {', '.join(sorted(SOURCES))}")
        source = SOURCES[name]
    if found := _from_mirror(name, mirror, source):
        return found
    target = Path(cache).expanduser() if cache else default_cache()
    target = target / name
    if target.is_file() and sha256_of(target) == source.sha256:
        return Fetched(target, source.sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        # another process may have finished it while this one waited
        if not (target.is_file() and sha256_of(target) == source.sha256):
            _download(name, source, target)
    return Fetched(target, source.sha256)


def _from_mirror(name: str, mirror: str | Path | None, source: Source) -> Fetched | None:
    """Return the mirror's copy, None if there is no mirror or it has no such file."""
    folder = mirror or os.environ.get("GATELAB_DATA_MIRROR")
    if not folder:
        return None
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        key = "data.mirror" if mirror else "GATELAB_DATA_MIRROR"
        raise FetchError(f"{key}={folder}: there is no such folder; correct or remove the setting")
    path = folder / name
    if not path.is_file():
        return None
    if (found := sha256_of(path)) != source.sha256:
        raise FetchError(
            f"{path}: the mirror's file has other bytes than the published ones: sha256 expected {source.sha256}, "
            f"found {found}; replace it by {source.url} or remove it"
        )
    return Fetched(path, source.sha256)


def _download(name: str, source: Source, target: Path) -> None:
    """Download to `<target>.part`, check, flush to disk, rename. The caller holds the lock."""
    part = Path(f"{target}.part")
    by_hand = f"; or put the file at <folder>/{name} and set data.mirror=<folder>"
    try:
        with tqdm(total=0, unit="B", unit_scale=True, desc=name, file=sys.stderr, leave=False) as bar:
            try:
                pooch.HTTPDownloader(progressbar=bar)(source.url, str(part), None)
            except (OSError, ValueError) as error:
                reason = f"{type(error).__name__}: {error}"
                raise FetchError(
                    f"{source.url}: could not be downloaded ({reason}); check the network{by_hand}"
                ) from error
        if (found := sha256_of(part)) != source.sha256:
            raise FetchError(
                f"{source.url}: downloaded bytes are not the published ones: sha256 expected {source.sha256}, found "
                f"{found} ({part.stat().st_size:,} bytes){by_hand}"
            )
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
