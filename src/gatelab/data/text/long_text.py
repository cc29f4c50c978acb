"""A text that may be larger than memory: read in pieces, as often as needed, and cut like a `str`.

It knows how long it is and where to find its pieces, and holds none of them. At level "byte" each character of such a
text stands for one byte (as in Latin-1), so that files of any kind are cut and counted by the same code.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

CHUNK: Final = 1 << 22
"""Most characters that are worked on at once."""


class LongText:
    """A text, or a part of one.

    read: yields the whole text anew, in pieces of any length. start, end: the part, in characters; `end` None: all
    of it, which is read once to know its length.
    """

    def __init__(self, read: Callable[[], Iterator[str]], start: int = 0, end: int | None = None) -> None:
        self._read, self._start = read, start
        self._end = sum(map(len, read())) if end is None else end

    @classmethod
    def of(cls, text: str) -> "LongText":
        """The text of a `str`."""
        return cls(lambda: iter([text]), 0, len(text))

    @classmethod
    def joined(cls, parts: Sequence["LongText"]) -> "LongText":
        """One text after the other."""
        return cls(lambda: (piece for part in parts for piece in part.pieces()), 0, sum(map(len, parts)))

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, part: slice) -> "LongText":
        start, end, _ = part.indices(len(self))
        return LongText(self._read, self._start + start, self._start + max(start, end))

    def __str__(self) -> str:
        return "".join(self.pieces())

    def find(self, mark: str, start: int = 0, end: int | None = None) -> int:
        """Return where the character `mark` first stands in `start..end`, or -1."""
        at = start
        for piece in self[start:end].pieces():
            if (found := piece.find(mark)) >= 0:
                return at + found
            at += len(piece)
        return -1

    def pieces(self) -> Iterator[str]:
        """Yield the text in order, as it is read."""
        at = 0
        for piece in self._read():
            if at >= self._end:
                return
            if part := piece[max(self._start - at, 0) : self._end - at]:
                yield part
            at += len(piece)

    def chunks(self, most: int = CHUNK) -> Iterator[str]:
        """Yield the text in parts of at most `most` characters.

        A part ends behind a line; where one line is longer, before a space, so that no word is torn; else anywhere.
        """
        left = ""
        for piece in self.pieces():
            left += piece
            while len(left) > most:
                cut = left.rfind("\n", 0, most) + 1
                if not cut:
                    space = left.rfind(" ", 1, most)
                    cut = space if space > 0 else most
                yield left[:cut]
                left = left[cut:]
        if left:
            yield left
