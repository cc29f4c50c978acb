"""What a file is that should be a table of text and is something else, told by its first bytes."""

import re
from typing import Final

from gatelab.data.messages import DataError

_KINDS: Final = {
    rb"PK\x03\x04": "a spreadsheet or an archive: save the sheet as CSV",
    rb"\xd0\xcf\x11\xe0": "an old spreadsheet: save the sheet as CSV",
    rb"PAR1": "a Parquet file: let its name end in .parquet",
    rb"\x1f\x8b": "compressed: let its name end in .csv.gz",
    rb"\x28\xb5\x2f\xfd": "compressed: let its name end in .csv.zst",
    rb"BZh\d|\xfd7zXZ": "compressed: unpack it",
    rb"%PDF-": "a PDF: save its table as CSV",
    rb"version https://git-lfs": "a pointer of Git LFS: get the file itself (git lfs pull)",
    rb"\s*<(!doctype|html|head|body|table|\?xml)\b": "a web page or XML: save its table as CSV",
    rb"\s*(\[\s*)?\{\s*\"|\s*\[\s*\[": "JSON: save it as CSV",
}


def refuse_other_kinds(head: bytes) -> None:
    """Raise `DataError` where the first bytes of a file are those of a spreadsheet, a web page, JSON and the like."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    if kind := next((kind for form, kind in _KINDS.items() if re.match(form, head, re.IGNORECASE)), None):
        raise DataError(f"the file is {kind}")
