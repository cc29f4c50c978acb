"""Text to token ids and back, behind one interface: words, characters, bytes, byte-pair pieces; and two sides at once.

A tokenizer is built from the training split alone and saved as plain data (`to_dict`, kept as
`tokenizer.json` in the run directory), so that a run can encode a prompt years later without its corpus. It
does no batching and reads no files.

Dimensions: `n` tokens, `V` vocabulary.
"""

import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor

from gatelab.data.messages import DataError

EOS: Final = "<eos>"
"""Ends a line at level "word"; stands before the first token of a stream at levels "word" and "bpe"."""
FEWEST_PIECES: Final = 257
"""Of byte pairs: every byte and `<eos>`."""
UNKNOWN: Final = "<unk>"
"""A word outside the vocabulary (PTB and WikiText-2 contain it as a word of their own)."""
UNKNOWN_CHARACTER: Final = "\ufffd"
"""A character outside the vocabulary: Unicode's replacement character."""
JOINER: Final = "\uffed"
"""Marks the side on which a token of a sentence touches its neighbour."""
PARTS: Final = re.compile(r"(?<=\w)['’]\w+|\w+|[^\w\s]")
"""A word; what an apostrophe inside a word begins; any other character."""


def check_pieces(size: int) -> None:
    """Raise `DataError` unless so many pieces of byte pairs can be learned."""
    if size < FEWEST_PIECES:
        raise DataError(
            f"data.vocabulary_size={size} is too small for level=bpe: give at least {FEWEST_PIECES} (all bytes, {EOS})"
        )


class Tokenizer(ABC):
    """`encode` and `decode` between text and ids `0..size-1`.

    size: number of different tokens `V`; seed_token: the id that stands before the first token of a stream.
    """

    level: str
    content: str  # what `to_dict` calls the argument of the constructor
    size: int
    seed_token: int

    @property
    def tokens(self) -> list[str]:
        """The tokens in the order of their ids, spelt so that equal ones of two tokenizers are the same token."""
        return [str(number) for number in range(self.size)]

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """Return the ids `[n]` int64 of `text`.

        `DataError` where it holds what the vocabulary cannot express.
        """

    def encode_chunk(self, chunk: str) -> Tensor:
        """Return the ids `[n]` (of any integer type) of a part of a corpus (see long_text.py)."""
        return self.encode(chunk)

    @abstractmethod
    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the text of `ids`."""

    def unknown_in(self, text: str) -> list[str]:
        """The words or characters of `text` that the vocabulary lacks, each once; pieces express any text."""
        return []

    def count_unknown(self, text: str, ids: Tensor) -> int:
        """How many of the tokens `ids` of `text` stand for a word or character that the vocabulary lacks."""
        return 0

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the tokenizer as plain data."""

    @classmethod
    @abstractmethod
    def train(
        cls, text: str | Iterable[str], size: int | None = None, *, open_vocabulary: bool = True
    ) -> Self:
        """Build it from the training text or its chunks, with `size` tokens (None: all; bpe 4096; byte 256).

        `open_vocabulary` adds an unknown token (word, char).
        """


def _id_list(ids: Iterable[int] | Tensor) -> list[int]:
    return [int(i) for i in (ids.tolist() if isinstance(ids, Tensor) else ids)]


def _chunks(text: str | Iterable[str]) -> Iterable[str]:
    return [text] if isinstance(text, str) else text


class _TableTokenizer(Tokenizer):
    """What words and characters share: a list of symbols whose place is their id."""

    content = "symbols"
    unknown: str
    seed: str

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = list(symbols)
        self.index = {symbol: i for i, symbol in enumerate(self.symbols)}
        if len(self.index) != len(self.symbols):
            raise DataError(f"tokenizer (level {self.level}): a symbol stands twice in the vocabulary")
        if self.seed not in self.index:
            raise DataError(f"tokenizer (level {self.level}): {self.seed!r} is missing from the vocabulary")
        self.size, self.seed_token = len(self.symbols), self.index[self.seed]

    @property
    def tokens(self) -> list[str]:
        """The symbols in the order of their ids."""
        return self.symbols

    def unknown_in(self, text: str) -> list[str]:
        """The words or characters of `text` that the vocabulary lacks, each once."""
        return list(dict.fromkeys(part for part in self.split(text) if part not in self.index))

    def count_unknown(self, text: str, ids: Tensor) -> int:
        """The tokens that read as unknown, without those that are spelt so in the text."""
        read = int((ids == self.index.get(self.unknown, -1)).sum())
        return read - self.split(text).count(self.unknown) if read else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the level and the symbols in the order of their ids."""
        return {"level": self.level, "symbols": list(self.symbols)}

    @staticmethod
    @abstractmethod
    def split(text: str) -> Sequence[str]:
        """Return the symbols of `text` in their order."""

    @classmethod
    def train(
        cls, text: str | Iterable[str], size: int | None = None, *, open_vocabulary: bool = True
    ) -> Self:
        """Take the `size` most frequent symbols of `text` (None: all), by falling count, then by name.

        The seed is always among them, and the unknown symbol if `open_vocabulary`.
        """
        counts: Counter[str] = Counter()
        for chunk in _chunks(text):
            counts.update(cls.split(chunk))
        total = counts.total()
        extra = [cls.seed, cls.unknown] if open_vocabulary else [cls.seed]
        for symbol in extra:  # never cut away by `size`
            if symbol in counts:
                counts[symbol] += total
        must = [symbol for symbol in extra if symbol not in counts]
        ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        return cls(ranked[: None if size is None else max(size - len(must), 0)] + must)


class WordTokenizer(_TableTokenizer):
    """Words between white space, and one `<eos>` for every newline.

    Unknown words become `<unk>` if the vocabulary has it.
    """

    level, unknown, seed = "word", UNKNOWN, EOS

    @staticmethod
    def split(text: str) -> list[str]:
        """Return the words of `text` with `<eos>` for each newline."""
        return text.replace("\n", f" {EOS} ").split()

    def encode(self, text: str) -> Tensor:
        """Return the ids `[n]` of the words; `DataError` for an unknown word when there is no `<unk>`."""
        words = self.split(text)
        other = self.index.get(self.unknown)
        ids = [self.index.get(word, other) for word in words]
        if other is None and None in ids:
            word = words[ids.index(None)]
            raise DataError(
                f"word {word!r} is not among the {self.size} words of the vocabulary, which has no {UNKNOWN}"
            )
        return torch.tensor(ids, dtype=torch.int64)

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the words with a space between them and a line break for each `<eos>`."""
        text = " ".join("\n" if i == self.seed_token else self.symbols[i] for i in _id_list(ids))
        return text.replace(" \n", "\n").replace("\n ", "\n")


class SentenceTokenizer(WordTokenizer):
    """Words and punctuation marks of written sentences, apart, so that the text can be put together again.

    A mark has a joiner where it touches its neighbour, as OpenNMT's tokenizer has it: `young, (white) men's` is
    `young`, `■,`, `(■`, `white`, `■)`, `men`, `■'s` with ■ for `JOINER`. Words keep one form. `decode` gives the text
    back, with one space for any white space.
    """

    level = "sentence"

    @staticmethod
    def split(text: str) -> list[str]:
        """Return the words and marks of `text`, and `<eos>` for each newline."""
        found: list[str] = []
        for number, line in enumerate(text.split("\n")):
            found += [EOS] * (number > 0) + _joined_parts(line)
        return found

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the text, the marks joined to what they touch."""
        return self.joined(super().decode(ids).split(" "))

    @staticmethod
    def joined(parts: Sequence[str]) -> str:
        """Return the text of words and marks."""
        text = " ".join(parts)
        return text.replace(f" {JOINER}", "").replace(f"{JOINER} ", "").replace(JOINER, "")


def _joined_parts(line: str) -> list[str]:
    """The parts of a line, with joiners at the marks."""
    found: list[str] = []
    end = -1  # of the part before, where no white space followed
    for match in PARTS.finditer(line.replace(JOINER, "")):
        part = match[0]
        if match.start() == end:
            if not part[0].isalnum() and part[0] != "_":
                part = JOINER + part
            else:
                found[-1] += JOINER
        found.append(part)
        end = match.end()
    return found


def plain_parts(text: str) -> list[str]:
    """The words and marks of a line without joiners, as text is tokenised for a score."""
    return PARTS.findall(text)


class CharTokenizer(_TableTokenizer):
    """Single Unicode characters. Unknown ones become U+FFFD if the vocabulary has it."""

    level, unknown, seed = "char", UNKNOWN_CHARACTER, "\n"

    @staticmethod
    def split(text: str) -> str:
        """Return the characters of `text`."""
        return text

    def encode(self, text: str) -> Tensor:
        """Return the ids `[n]` of the characters; `DataError` for an unknown one when there is no U+FFFD."""
        if not text:
            return torch.zeros(0, dtype=torch.int64)
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        present, place = np.unique(points, return_inverse=True)
        other = self.index.get(self.unknown, -1)
        ids = np.array([self.index.get(chr(point), other) for point in present], dtype=np.int64)
        if (ids < 0).any():
            character = chr(int(present[ids < 0][0]))
            raise DataError(
                f"character {character!r} (first at position {text.index(character)}) is not among the {self.size} "
                "characters of the vocabulary; remove or replace it"
            )
        return torch.from_numpy(ids[place])

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the characters joined."""
        return "".join(self.symbols[i] for i in _id_list(ids))


class BPETokenizer(Tokenizer):
    """Byte-level byte-pair encoding (Sennrich et al., 2016) by the `tokenizers` library.

    It expresses any text, so there is no unknown token. `size` is less than asked for if the text has too few pairs;
    the seed token, `<eos>`, never stands inside a text.
    """

    level, content = "bpe", "tokenizer"

    def __init__(self, serialised: str) -> None:
        # training is repeatable on one thread, and forked loader workers would warn about the thread pool
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from tokenizers import Tokenizer as Backend

        self._backend = Backend.from_str(serialised)
        self._backend.encode_special_tokens = True  # "<eos>" typed in a text is five characters, not the seed
        self.size, self.seed_token = self._backend.get_vocab_size(), self._backend.token_to_id(EOS) or 0

    @classmethod
    def train(
        cls, text: str | Iterable[str], size: int | None = None, *, open_vocabulary: bool = True
    ) -> Self:
        """Learn `size` pieces (None: 4096; at least 257: every byte and `<eos>`) from `text`."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers, trainers

        size = 4096 if size is None else size
        check_pieces(size)
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[EOS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        lines = (line for chunk in _chunks(text) for line in chunk.splitlines(keepends=True))
        backend.train_from_iterator(lines, trainer)
        return cls(backend.to_str())

    @property
    def tokens(self) -> list[str]:
        """The pieces in the order of their ids."""
        return [str(self._backend.id_to_token(number)) for number in range(self.size)]

    def encode(self, text: str) -> Tensor:
        """Return the ids `[n]` of the pieces.

        Lines are cut apart first, as in training, so long texts stay cheap.
        """
        encodings = self._backend.encode_batch(text.splitlines(keepends=True), add_special_tokens=False)
        return torch.tensor([i for encoding in encodings for i in encoding.ids], dtype=torch.int64)

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the text of the pieces.

        Bytes that are no valid UTF-8 become U+FFFD, the seed token is left out.
        """
        return str(self._backend.decode(_id_list(ids), skip_special_tokens=True))

    def to_dict(self) -> dict[str, Any]:
        """Return the level and the library's own serialisation (a JSON text)."""
        return {"level": self.level, "tokenizer": self._backend.to_str()}


class ByteTokenizer(Tokenizer):
    """The 256 bytes; a text is those of its UTF-8. A newline stands before the first token of a stream."""

    level, content, seed_token = "byte", "size", ord("\n")

    def __init__(self, size: int = 256) -> None:
        if size != 256:
            raise DataError(f"tokenizer (level byte): size is {size}, and there are 256 bytes")
        self.size = size

    @classmethod
    def train(
        cls, text: str | Iterable[str], size: int | None = None, *, open_vocabulary: bool = True
    ) -> Self:
        """Return the one that there is."""
        return cls()

    def encode(self, text: str) -> Tensor:
        """Return the bytes `[n]` of the text in UTF-8."""
        return self.encode_chunk(text.encode("utf-8", "surrogatepass").decode("latin-1")).long()

    def encode_chunk(self, chunk: str) -> Tensor:
        """Return the bytes `[n]` uint8 of a part of a corpus, each of which is a character there."""
        return torch.from_numpy(np.frombuffer(bytearray(chunk, "latin-1"), np.uint8))

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the text of the bytes; those that are no valid UTF-8 become U+FFFD."""
        return bytes(_id_list(ids)).decode("utf-8", "replace")

    def to_dict(self) -> dict[str, Any]:
        """Return the level and the size."""
        return {"level": self.level, "size": self.size}


class PairTokenizer(Tokenizer):
    """Two languages: it reads the source (`encode`) and writes the target (`decode`).

    The id before and after a sentence is the `seed_token` of its side; no sentence holds it.

    sides: `source` and `target`, each a tokenizer; one and the same where both have a joint vocabulary. lower: both
    are read in lower case.
    """

    level, content = "pair", "sides"

    def __init__(self, sides: Mapping[str, Any]) -> None:
        self.lower, self.joint = bool(sides["lower"]), "target" not in sides
        self.source = tokenizer_from_dict(sides["source"])
        self.target = self.source if self.joint else tokenizer_from_dict(sides["target"])
        self.size, self.seed_token = self.target.size, self.target.seed_token

    @classmethod
    def of(cls, source: Tokenizer, target: Tokenizer, *, lower: bool) -> Self:
        """Make it of two tokenizers, or of one given twice."""
        sides = {"lower": lower, "source": source.to_dict()}
        return cls(sides if source is target else {**sides, "target": target.to_dict()})

    def read(self, text: str, side: Tokenizer) -> Tensor:
        """Return the ids `[n]` of a sentence of one side, its end included."""
        return self.ended(side.encode(self.as_read(text)), side)

    def as_read(self, text: str) -> str:
        """Return a sentence in the case in which it is read."""
        return text.lower() if self.lower else text

    @staticmethod
    def ended(ids: Tensor, side: Tokenizer) -> Tensor:
        """Return the ids `[n]` of a sentence of one side with its end `[n + 1]`."""
        return torch.cat((ids, ids.new_tensor([side.seed_token])))

    def encode(self, text: str) -> Tensor:
        """Return the ids `[n]` of a sentence to be translated, its end included."""
        return self.read(text, self.source)

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the text of a translation."""
        return self.target.decode(ids)

    def unknown_in(self, text: str) -> list[str]:
        """The words or characters of a sentence that the source vocabulary lacks, each once."""
        return self.source.unknown_in(self.as_read(text))

    def to_dict(self) -> dict[str, Any]:
        """Return both sides."""
        sides = {"lower": self.lower, "source": self.source.to_dict()}
        return {
            "level": self.level,
            "sides": sides if self.joint else {**sides, "target": self.target.to_dict()},
        }

    @classmethod
    def train(
        cls, text: str | Iterable[str], size: int | None = None, *, open_vocabulary: bool = True
    ) -> Self:
        """Not of one text: `of` makes it of two tokenizers."""
        raise NotImplementedError


_LEVELS: Final[dict[str, type[Tokenizer]]] = {
    kind.level: kind
    for kind in (
        WordTokenizer,
        SentenceTokenizer,
        CharTokenizer,
        ByteTokenizer,
        BPETokenizer,
        PairTokenizer,
    )
}


def train_tokenizer(
    level: str, text: str | Iterable[str], size: int | None = None, *, open_vocabulary: bool = True
) -> Tokenizer:
    """Build the tokenizer of `level` from the training text or its chunks, see `Tokenizer.train`."""
    if level not in _LEVELS:
        raise DataError(f"data.level={level!r}: expected one of {', '.join(_LEVELS)}")
    return _LEVELS[level].train(text, size, open_vocabulary=open_vocabulary)


def tokenizer_from_dict(data: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer that `to_dict` wrote, of whichever level."""
    level = data.get("level")
    if level not in _LEVELS:
        raise DataError(f"tokenizer: 'level' is {level!r}, expected one of {', '.join(_LEVELS)}")
    kind: Any = _LEVELS[level]
    return kind(data[kind.content])
