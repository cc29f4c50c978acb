"""The vocabulary of an earlier run for another text: `data.vocabulary=RUN`.

A classifier that goes on from a language model reads its texts with the model's vocabulary (as ULMFiT does, Howard and
Ruder 2018): a word that its own training texts lack then still has a row that was trained.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatelab.data.fetch import sha256_of
from gatelab.data.files import read_json
from gatelab.data.messages import DataError

if TYPE_CHECKING:  # a run's record asks where the file is, and needs no torch
    from gatelab.data.text.tokenizer import Tokenizer

FILE: Final = "tokenizer.json"


def vocabulary_file(named: str) -> Path:
    """The file `tokenizer.json` that is named, or that of the run directory; `DataError` where there is none."""
    path = Path(named).expanduser()
    file = path / FILE if path.is_dir() else path
    if path.is_dir() and not file.is_file() and len(inside := list(path.glob(f"*/{FILE}"))) == 1:
        return inside[0]  # the only run of that name
    if not file.is_file():
        raise DataError(
            f"data.vocabulary={named}: no such file; give the directory of a run of a text, or its {FILE}"
        )
    return file


def vocabulary_sha256(named: str | None) -> dict[str, str]:
    """`vocabulary` -> the sha256 of the file, for a fingerprint and a key of the cache; empty where none is named."""
    return {} if named is None else {"vocabulary": sha256_of(vocabulary_file(named))}


def kept_vocabulary(named: str, level: str) -> "Tokenizer":
    """The tokenizer of an earlier run, of this level; `DataError` where it is of another one, or damaged."""
    from gatelab.data.text.tokenizer import tokenizer_from_dict

    file = vocabulary_file(named)
    try:
        tokenizer = tokenizer_from_dict(read_json(file))
    except DataError as error:
        raise DataError(f"data.vocabulary={named}: {error}") from None
    except Exception as error:  # the library of byte pairs raises this very class
        raise DataError(f"data.vocabulary={named}: {file.name} is damaged ({error})") from None
    if tokenizer.level != level:
        raise DataError(
            f"data.vocabulary={named}: its tokens are of level {tokenizer.level}; give data.level={tokenizer.level}"
        )
    return tokenizer
