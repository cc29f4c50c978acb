"""What a file is that should be a text or a table of text and is something else, told by its first bytes."""

import re
from typing import Final, NamedTuple

from gatelab.data.messages import DataError


class Kind(NamedTuple):
    """What a file is, and what to do where it should be a table or a text. text: such files can be meant as texts."""

    what: str
    as_table: str
    as_text: str
    text: bool = False


_SHEET: Final = "save the sheet as CSV"
_TABLE: Final = "save its table as CSV"
_OUT: Final = "leave the file out"
_TEXT: Final = f"save its text in UTF-8, or {_OUT}"
_ONCE: Final = ", or unpack it"
_FETCH: Final = "get the file itself (git lfs pull)"
SOUND: Final = "a sound"
_PACKED: Final = "let its name end in "
_JSON: Final = Kind("JSON", "save it as CSV", _TEXT, text=True)
_KINDS: Final = {
    rb"PK\x03\x04": Kind("a spreadsheet or an archive", _SHEET, f"unpack it, or {_OUT}"),
    rb"\xd0\xcf\x11\xe0": Kind("an old spreadsheet", _SHEET, _TEXT),
    rb"PAR1[\0-\x1f]": Kind("a Parquet file", f"{_PACKED}.parquet", _TEXT),
    rb"\x1f\x8b": Kind("compressed", f"{_PACKED}.csv.gz{_ONCE}", f"{_PACKED}.gz{_ONCE}"),
    rb"\x28\xb5\x2f\xfd": Kind("compressed", f"{_PACKED}.csv.zst{_ONCE}", f"{_PACKED}.zst{_ONCE}"),
    rb"BZh\d1AY&SY|\xfd7zXZ|7z\xbc\xaf|Rar!\x1a": Kind("compressed", "unpack it", "unpack it"),
    rb"%PDF-": Kind("a PDF", _TABLE, _TEXT),
    rb"\{\\rtf\d|%!PS-": Kind("a document with its layout (RTF, PostScript)", _TABLE, _TEXT),
    rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP": Kind("an image", _TABLE, _OUT),
    rb"RIFF....WAVE|ID3[\2-\4]\0|OggS\0|fLaC\0": Kind(SOUND, _TABLE, _OUT),
    rb"SQLite format 3\0|\x89HDF|\x93NUMPY": Kind("a database or an array", _TABLE, _OUT),
    rb"version https://git-lfs": Kind("a pointer of Git LFS", _FETCH, _FETCH),
    rb"\s*<(!doctype|html|head|body|table|\?xml|srcset|refset)\b": Kind(
        "a web page or XML", _TABLE, _TEXT, text=True
    ),
    rb"\s*(\[\s*)?\{\s*\"": _JSON,
}
_ROWS: Final = rb"\s*\[\s*\["
"""JSON as a table; a text may begin so."""


def kind_of(head: bytes) -> Kind | None:
    """Return the kind of a file with these first bytes; None where it may be a text."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    return next(
        (kind for form, kind in _KINDS.items() if re.match(form, head, re.IGNORECASE | re.DOTALL)), None
    )


def refuse_other_kinds(head: bytes) -> None:
    """Raise `DataError` where the first bytes of a table are those of a spreadsheet, a web page, JSON and the like."""
    kind = kind_of(head) or (_JSON if re.match(_ROWS, head) else None)
    if kind is not None:
        raise DataError(f"the file is {kind.what}: {kind.as_table}")
