"""Reads a text from a stream of bytes in parts, so that a large one is never held whole.

Dimensions: `n` tokens.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import torch
from torch import Tensor

from gatelab.data.messages import DataError
from gatelab.data.text.tokenizer import Tokenizer

CHUNK: Final = 1 << 20
"""Characters that are encoded at once, or a few more."""
_BETWEEN_WORDS: Final = re.compile(r"(?<=\S) (?=\S)")


def encoded_parts(blocks: Iterable[bytes], tokenizer: Tokenizer) -> Iterator[tuple[str, Tensor]]:
    """Yield the text of `blocks` in parts, and the ids `[n]` int64 of each; together they are those of the whole text.

    As in training, text is UTF-8, its line ends become `\\n` and a byte-order mark is dropped. At level "byte" every
    byte is a token, and a character of the parts. `DataError` names a line that is not UTF-8, and an empty
    text.
    """
    empty = True
    if tokenizer.level == "byte":
        parts = (
            (raw.decode("latin-1"), torch.frombuffer(bytearray(raw), dtype=torch.uint8).long())
            for raw in blocks
            if raw
        )
    else:
        texts = _parts(_decoded(blocks), anywhere=tokenizer.level == "char")
        parts = ((text, tokenizer.encode(text)) for text in texts)
    for text, ids in parts:
        empty = empty and not len(ids)
        yield text, ids
    if empty:
        raise DataError("there is no token in it, so nothing to score; give a text")


def _parts(texts: Iterable[str], *, anywhere: bool) -> Iterator[str]:
    """Join and cut texts into parts that are encoded alike: behind a line, or before a single space."""
    left = ""
    for text in texts:
        left += text
        if len(left) < CHUNK:
            continue
        cut = len(left) if anywhere else left.rfind("\n") + 1
        if not cut:
            cut = max((found.start() for found in _BETWEEN_WORDS.finditer(left)), default=0)
        if cut:
            yield left[:cut]
            left = left[cut:]
    if left:
        yield left


def _decoded(blocks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    lines, held = 1, ""  # held: a \r at the end of a block, for the \n may follow
    for block in chain(blocks, [b""]):
        try:
            text = held + decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line = lines + error.object[: error.start].count(b"\n")
            raise DataError(
                f"line {line} is not UTF-8 (a byte is 0x{error.object[error.start]:02x}); convert it to UTF-8"
            ) from None
        lines += block.count(b"\n")
        held = "\r" if block and text.endswith("\r") else ""
        yield text.removesuffix(held).replace("\r\n", "\n")
