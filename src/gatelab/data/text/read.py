"""Reads a text from a stream of bytes in parts, so that a large one is never held whole.

Dimensions: `n` tokens.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from torch import Tensor

from gatelab.data.messages import DataError
from gatelab.data.text.long_text import LongText
from gatelab.data.text.text_files import characters
from gatelab.data.text.tokenizer import Tokenizer

CHUNK: Final = 1 << 20
"""Most characters that are encoded at once."""


def encoded_parts(blocks: Iterable[bytes], tokenizer: Tokenizer, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the text of `blocks` in parts, and the ids `[n]` int64 of each; together they are those of the whole text.

    Bytes are read as in training (`characters`): at level "byte" each is a character of the parts. `DataError` names
    the place in the text called `name` that is not UTF-8, and a text without a token.
    """
    pieces = characters(name, iter(blocks), tokenizer.level)
    empty = True
    for part in LongText(lambda: pieces, 0, sys.maxsize).chunks(CHUNK):
        ids = tokenizer.encode_chunk(part).long()
        empty = empty and not len(ids)
        yield part, ids
    if empty:
        raise DataError(f"{name}: there is no token in it, so nothing to score; give a text")
