"""Messages: the errors of the data ring, remarks on stderr, the nearest spelling of a misspelt name.

Both errors are `ValueError`s whose message names the file (or option), where in it the trouble is, and the fix.
"""

import difflib
import sys
from collections.abc import Iterable, Sequence


class DataError(ValueError):
    """The data or an option about it is unusable; the message says where and what to change."""


class FetchError(DataError):
    """A file is missing, could not be downloaded, or has other bytes than the ones that were published."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest of the known names, to follow a full stop; "" if none is near."""
    others = [name for name in map(str, known) if name != word]
    near = difflib.get_close_matches(word, others, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def say(text: str) -> None:
    """Print a line on stderr; results alone go to stdout."""
    print(text, file=sys.stderr, flush=True)


def counted(number: int, thing: str) -> str:
    """`1 worker`, `2,000 workers`."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def few(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
