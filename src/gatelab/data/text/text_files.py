"""Reads text files in pieces: plain, `.gz`, `.zst` or a member of a zip archive; one, a folder of them or a glob.

Text is UTF-8, its line ends become `\\n`, a byte-order mark is dropped. At level "byte" a file is read as it is.
"""

import codecs
import gzip
import hashlib
import importlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

from gatelab.data.fetch import sha256_of
from gatelab.data.file_kinds import Kind, kind_of
from gatelab.data.files import WILD, files_of
from gatelab.data.messages import DataError, counted
from gatelab.data.text.long_text import LongText

_BLOCK: Final = 1 << 20
_HEAD: Final = 100
"""Bytes that tell the kind of a file."""
_BINARY: Final = bytes({*range(1, 9), *range(14, 27)})
"""Bytes that stand in no text."""
_UTF_16: Final = {"UTF-16LE": (codecs.BOM_UTF16_LE, 1), "UTF-16BE": (codecs.BOM_UTF16_BE, 0)}
"""The mark of each, and the place of the NUL byte in the two bytes of a Latin letter."""
_CONVERT: Final = "is {0}; convert it to UTF-8 (iconv -f {0} -t UTF-8 OLD > NEW)"
_UTF_32: Final = {"UTF-32LE": (2, 3), "UTF-32BE": (0, 1)}
"""The places of NUL bytes in the four bytes of a letter, past a mark."""


class TextFiles(NamedTuple):
    """Files that are read as one text. label: what they are called on any machine."""

    label: str
    files: list[Path]
    root: Path

    def sha256(self) -> str:
        """Return the sha256 of the file; of several, that of their names below `root` and their sha256."""
        if self.files == [self.root]:
            return sha256_of(self.root)
        rows = [f"{file.relative_to(self.root).as_posix()} {sha256_of(file)}\n" for file in self.files]
        return hashlib.sha256("".join(rows).encode()).hexdigest()


def find_files(key: str, name: str) -> TextFiles:
    """Return the file, the files of the folder and of those below it, or what the glob `name` matches, by name.

    Hidden files and folders are left out. `DataError` names `key` where there is none.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return TextFiles(path.name, [path], path)
    if path.is_dir():
        files = files_of(key, name)
        root, label = path, f"{path.resolve().name}/"
    elif any(mark in name for mark in WILD):
        files = files_of(key, name)
        root, label = Path(os.path.commonpath([file.parent for file in files])) if files else path, path.name
        if not files:
            raise DataError(f"{key}={name}: matches no file (looked from {Path.cwd()}); correct the pattern")
    else:
        raise DataError(f"{key}={name}: there is no such file (looked in {path.resolve().parent})")
    if not files:
        raise DataError(f"{key}={name}: there is no file in this folder")
    files.sort(key=lambda file: file.relative_to(root).as_posix())
    return TextFiles(f"{label} ({counted(len(files), 'file')})", files, root)


def text_of(files: Sequence[Path], level: str, *, as_bytes: bool = True) -> LongText:
    """Return the text of the files, one after the other; a newline is put where a file does not end with one.

    as_bytes: see `characters`.
    """

    def read() -> Iterator[str]:
        last = "\n"
        for file in files:
            for number, piece in enumerate(characters(str(file), blocks(file), level, as_bytes=as_bytes)):
                if number == 0 and last != "\n" and level != "byte":
                    yield "\n"
                yield piece
                last = piece[-1]

    return LongText(read)


def text_of_member(archive: Path, member: str, level: str) -> LongText:
    """Return the text of a member of a zip archive; `DataError` where it lacks it."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{archive}: is not a zip archive ({error}); remove it to download it again"
        ) from None
    if member not in names:
        raise DataError(
            f"{archive}: lacks {member} (it holds {', '.join(names[:5]) or 'nothing'}); remove it to download "
            "it again"
        )
    return LongText(lambda: characters(f"{archive}:{member}", blocks(archive, member), level))


def blocks(path: Path, member: str | None = None) -> Iterator[bytes]:
    """Yield the bytes of a file, unpacked where its name ends in `.gz` or `.zst` or a zip's `member` is asked for."""
    try:
        with _open(path, member) as file:
            while block := file.read(_BLOCK):
                yield block
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be unpacked ({error}); is it whole?") from None


def _open(path: Path, member: str | None) -> AbstractContextManager[Any]:
    if member is not None:
        return zipfile.Path(path, member).open("rb")
    if path.suffix.lower() == ".gz":
        return gzip.open(path)
    if path.suffix.lower() == ".zst":
        return _open_zst(path)
    return path.open("rb")


@contextmanager
def _open_zst(path: Path) -> Iterator[Any]:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise DataError(
            f"{path}: a package is missing (zstandard): pip install 'gatelab[zst]'; or unpack the file"
        ) from None
    try:
        unpack = zstandard.ZstdDecompressor().stream_reader
        with path.open("rb") as packed, unpack(packed, read_across_frames=True) as reader:
            yield reader
    except zstandard.ZstdError as error:
        raise DataError(f"{path}: cannot be unpacked ({error}); is it whole?") from None


def page_kind(file: Path) -> Kind | None:
    """Return the kind of a web page, of XML or JSON, which is a text, but rarely the one that is meant; else None."""
    kind = kind_of(next(blocks(file), b"")[:_HEAD])
    return kind if kind is not None and kind.text else None


def refuse_pages(files: Sequence[Path], fix: str = "") -> None:
    """Raise `DataError` for files that are pages (see `page_kind`). fix: what else to do about them."""
    if pages := [(file, kind) for file in files if (kind := page_kind(file))]:
        file, kind = pages[0]
        more = f" (and {len(pages) - 1:,} more such files)" * (len(pages) > 1)
        raise DataError(f"{file}: is {kind.what}{more}; {kind.as_text}{fix}")


def lines_of(file: Path, *, pages: bool = False) -> list[str]:
    """Return the lines of a text file in UTF-8, which `\\n`, `\\r\\n` or, in a file without these, `\\r` ends.

    pages: whether it may be a web page, XML or JSON.
    """
    refuse_pages([] if pages else [file])
    return split_lines("".join(characters(str(file), blocks(file), "char", as_bytes=False)))


def split_lines(text: str) -> list[str]:
    """Return the lines of a text; no other sign than a line end parts them."""
    text = text if "\n" in text else text.replace("\r", "\n")
    return text.removesuffix("\n").split("\n") if text else []


def nul_told(block: bytes, before: int = 0, lines: int = 0) -> str:
    """Say what a block of bytes with a NUL byte is: UTF-16, a binary file, or a text with a stray one.

    before, lines: bytes and whole lines of the file before the block.
    """
    place, count = block.index(0), block.count(0)
    letters = block[-before % 4 or 4 :]
    for name, places in _UTF_32.items():
        if any(letters) and not any(any(letters[at::4]) for at in places):
            return _CONVERT.format(name)
    for name, (mark, odd) in _UTF_16.items():
        if (not before and block.startswith(mark)) or 3 * block[odd::2].count(0) > len(block) > 5 * block[
            1 - odd :: 2
        ].count(0):
            return _CONVERT.format(name)
    if any(byte in _BINARY for byte in block):
        return f"is a binary file (byte {before + place} is 0x00); give a text in UTF-8"
    line = lines + block.count(b"\n", 0, place) + 1
    return (
        f"line {line} holds a NUL byte (byte {before + place} is 0x00{f', {count:,} in all' if count > 1 else ''}); "
        "remove it (tr -d '\\000' < OLD > NEW)"
    )


def characters(name: str, raw: Iterator[bytes], level: str, *, as_bytes: bool = True) -> Iterator[str]:
    """Yield the text of blocks of bytes; at level "byte" each byte as one character.

    as_bytes: whether messages may offer that level. `DataError` names the file (`name`), the line and the byte where it
    is not UTF-8, and a file that is no text.
    """
    fix = ", or read its bytes with data.level=byte" * as_bytes
    if level == "byte":
        yield from (block.decode("latin-1") for block in raw)
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    fed = lines = 0
    held = ""  # a \r at the end of a block: the \n may follow
    for block in chain(raw, [b""]):
        if fed == 0 and (kind := kind_of(block[:_HEAD])) and not kind.text:
            raise DataError(f"{name}: is {kind.what}; {kind.as_text}{fix}")
        if fed == 0 and block.startswith(codecs.BOM_UTF8):
            fed, block = len(codecs.BOM_UTF8), block[len(codecs.BOM_UTF8) :]
        if b"\0" in block:
            raise DataError(f"{name}: {nul_told(block, fed, lines)}{fix}")
        try:
            text = held + decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before = fed - (len(error.object) - len(block))
            line = lines + error.object[: error.start].count(b"\n") + 1
            raise DataError(
                f"{name}: line {line} is not UTF-8 (byte {before + error.start} is "
                f"0x{error.object[error.start]:02x}); convert the file to UTF-8{fix}"
            ) from None
        fed, lines = fed + len(block), lines + block.count(b"\n")
        held = "\r" if block and text.endswith("\r") else ""
        if text := text.removesuffix(held).replace("\r\n", "\n"):
            yield text
