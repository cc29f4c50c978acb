"""Messages: the errors of the data ring, remarks and progress bars on stderr, the nearest spelling of a misspelt name.

Both errors are `ValueError`s whose message names the file (or option), where in it the trouble is, and the fix.
"""

import contextlib
import difflib
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar
from unicodedata import category, normalize

Found = TypeVar("Found")
Progress = Callable[[str, int | None], Callable[[int], None]]
"""Called with a label and how much there is to do (None: not known).

It returns what is called with how much more is done."""
MOST_CHARACTERS = 4000
MOST_OF_A_NAME = 60
MOST_PROBLEMS = 12
"""Of one file, that a message lists."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a terminal's cursor, colours, title or direction of writing, or cannot be written; not line breaks and
tabs."""


ROWS_ALONE = (
    "put fields that hold the separator in quotes, and remove lines that are no rows, such as a title above the header "
    "or a note below the table"
)
"""What to do about a line of too many or too few fields."""
CLOSE_QUOTE = "put the whole field in quotes and write each quote within it twice, or remove that quote"
NO_HEADER = "if that is a row, write the names of the columns above it"
HEADER_AGAIN = "is the header again; keep the first line of names, and remove the others"


_WORDS = ("null", "true", "false", "nan", "inf")
"""What Hydra takes for something else than a name."""


class DataError(ValueError):
    """The data or an option about it is unusable; the message says where and what to change."""


class FetchError(DataError):
    """A file is missing, could not be downloaded, or has other bytes than the ones that were published."""


@contextlib.contextmanager
def bars() -> Iterator[Progress]:
    """Progress bars on stderr, one for each call; none where it is not a terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(file=sys.stderr)
    with Bars(console=console, transient=True, disable=not console.is_terminal) as shown:

        def begin(label: str, total: int | None) -> Callable[[int], None]:
            bar = shown.add_task(label, total=total)
            return lambda done: shown.advance(bar, done)

        yield begin


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest of the known names, to follow a full stop; "" if none is near."""
    others = [name for name in map(str, known) if name != word]
    if alike := [name for name in others if _look(name) == _look(word)]:
        return f" Did you mean {alike[0]!a}, which looks the same?"
    near = [name for name in others if name.lower() == word.lower()]
    near = near or difflib.get_close_matches(word, others, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def no_column(key: str, name: str, columns: Sequence[str], separator: str) -> str:
    """Say that a column which a setting names is not there, and which are.

    separator: what to do where a file of one column may have several.
    """
    there = [
        column if len(column) <= MOST_OF_A_NAME else f"{column[:MOST_OF_A_NAME]}..." for column in columns
    ]
    hint = did_you_mean(name, columns) or f" There are {few(there, 12)}; {NO_HEADER}."
    if len(columns) == 1:
        hint = f" The only column is {shown(columns[0])}{separator}."
    return f"{key} names the column {name!r}, which does not exist.{hint}"


class Problems(list[str]):
    """The problems of one file, found by several looks at it."""

    def of(self, look: Callable[[], Found]) -> Found | None:
        """Return what `look` finds; None where it raises `DataError`, whose message is kept."""
        try:
            return look()
        except DataError as error:
            self.append(str(error))
            return None

    def refuse(self) -> None:
        """Raise `DataError` with the first of them and their number, if there are any."""
        if len(self) == 1:
            raise DataError(self[0])
        if self:
            left = [f"and {len(self) - MOST_PROBLEMS:,} more"] * (len(self) > MOST_PROBLEMS)
            raise DataError("\n  ".join([f"{len(self):,} problems:", *self[:MOST_PROBLEMS], *left]))


def shows(text: str) -> bool:
    """Whether a text has a sign that shows: no space, and none without width."""
    return any(not sign.isspace() and category(sign) != "Cf" for sign in text)


def _look(name: str) -> str:
    """A name without what nobody sees: the kind of its accents, the kind and number of spaces, signs without width."""
    return " ".join("".join(sign for sign in normalize("NFC", name) if category(sign) != "Cf").split())


def tell_twins(kind: str, names: Iterable[str], notes: list[str]) -> None:
    """Note names that differ in case alone, or are one whole number with and without `.0`: they stay different.

    `kind` says what the names are, in the plural.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"^(-?\d+)\.0+$", r"\1", name).casefold(), []).append(name)
    if twins := [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]:
        notes.append(f"{kind} were taken for different ones: {few(twins)}; write them alike if they are one")


def refuse_lookalikes(kind: str, names: Iterable[str]) -> None:
    """Raise `DataError` where two names differ only in what nobody sees.

    That is an accent in one character or in two, the kind and number of spaces, or signs without width. `kind` says
    what the names are, in the plural.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_look(name), name)
        if other != name:
            raise DataError(
                f"the {kind} {other!a} and {name!a} look the same and are written differently; write them "
                "alike"
            )


def say(text: str) -> None:
    """Print a line on stderr; results alone go to stdout."""
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    """Text that a terminal shows and does not obey: control characters by their codes, a long text without its middle.

    Text may come from a file, a folder's name or a network, and hold anything.
    """
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]} [... {len(text) - 2 * half:,} characters ...] {text[-half:]}"
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown(value: object, most: int = 60) -> str:
    """A value for a message, at most `most` characters of it."""
    of_numpy = hasattr(value, "item") and getattr(value, "shape", None) == ()
    text = repr(value.item() if of_numpy else value)  # type: ignore[attr-defined]
    return text if len(text) <= most else f"{text[: most - 3]}..."


def counted(number: int, thing: str) -> str:
    """`1 worker`, `2,000 workers`."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def told_dropped(rows: int, where: str) -> str:
    """The note on rows that repeat another one exactly."""
    repeat, were = ("repeats", "was") if rows == 1 else ("repeat", "were")
    return f"{counted(rows, 'row')} that {repeat} another one exactly {were} dropped ({where})"


def few(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def to_type(key: str, value: str | list[str]) -> str:
    """The override to type for a key whose value is a name or a list of names, quoted for Hydra and the shell."""

    def quoted(name: str) -> str:
        plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.\-]*", name) and name.lower() not in _WORDS
        return name if plain else '"' + name.replace("\\", r"\\").replace('"', r"\"") + '"'

    text = f"[{','.join(map(quoted, value))}]" if isinstance(value, list) else quoted(value)
    return shlex.quote(f"{key}={text}") if '"' in text else f"{key}={text}"
