"""Sounds of your own: a folder with one folder a class, or a manifest, a CSV file with a row for each sound.

A manifest (.csv or .tsv, see `text_table`) has the columns `path` (from the manifest's folder on) and `label` (its
class) or `transcript`; and, if they are there, `split` (train, valid or test) and `speaker`, in every row. Words are
read in NFC. Without `split`, sounds are shared out at random: of every class its part, or, where there are speakers,
whole speakers.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from unicodedata import normalize

import numpy as np

from gatelab.data.audio.recordings import Corpus, Example, read_recordings
from gatelab.data.audio.wav import ENDINGS
from gatelab.data.fetch import sha256_of
from gatelab.data.files import files_of
from gatelab.data.messages import (
    DataError,
    Problems,
    counted,
    did_you_mean,
    few,
    refuse_lookalikes,
    shows,
    tell_twins,
    told_dropped,
)
from gatelab.data.specs import SPLIT_NAMES, SPLITS
from gatelab.data.text_table import Line, TextTable, is_table, text_of_table, text_table

FRACTIONS: Final = (0.8, 0.1, 0.1)
MANIFESTS: Final = (".csv", ".tsv")
Column = str
"""Of a manifest: "label" or "transcript"."""


class Row(NamedTuple):
    """A sound: where it is named, its file, its class or transcript; split and speaker, or nothing."""

    where: str
    file: Path
    text: str
    split: str = ""
    speaker: str = ""


def own_sounds(
    path: str,
    column: Column,
    fractions: list[float] | None,
    seed: int,
    *,
    channels: str,
    rate: int | None,
    cache: str | None,
) -> Corpus:
    """The sounds of a folder or manifest. fractions: of train, valid and (if there are three) test; seed: of the draw.

    Raises:
        DataError: naming file and row of what is wrong.
    """
    place = Path(path).expanduser()
    listed = is_table(place, *MANIFESTS) and not place.is_dir()
    told: list[str] = []
    rows, notes = (manifest(place, column, told), told) if listed else folder(place, column)
    rows = _without_doubles(rows, notes) if listed else rows
    root = place.parent if listed else place
    if column == "label":
        tell_twins("classes", dict.fromkeys(row.text for row in rows), notes)

    def named(file: Path) -> Path:
        return file.relative_to(root) if file.is_relative_to(root) else file

    def sha256() -> str:
        lines = [
            f"{named(row.file)}\t{sha256_of(row.file)}\t{row.text}\t{row.split}"
            + f"\t{row.speaker}" * bool(row.speaker)
            for row in rows
        ]
        return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    def files() -> Iterator[tuple[str, bytes]]:
        return ((row.where, row.file.read_bytes()) for row in rows)

    recordings = read_recordings(
        lambda: {"source": sha256()}, files, channels=channels, rate=rate, cache=cache
    )
    examples = [
        Example(row.where, (recordings.piece(number),), row.text, row.speaker)
        for number, row in enumerate(rows)
    ]
    if any(row.split for row in rows):
        shares = [row.split for row in rows]
        note = "splits as the column `split` says"
    else:
        groups = [row.speaker or (row.text if column == "label" else "") for row in rows]
        whole = all(row.speaker for row in rows)
        shares = shared_out(groups, fractions or list(FRACTIONS), seed, whole=whole, rows=rows)
        note = f"splits drawn from data_seed {seed}, " + ("whole speakers" if whole else "sound by sound")
    found = {
        split: [example for example, share in zip(examples, shares, strict=True) if share == split]
        for split in SPLITS
    }
    found = {split: of_it for split, of_it in found.items() if of_it}
    for split in ("train", "valid"):
        if split not in found:
            raise DataError(
                f"data.path={path}: no sound is in the split {split}; say {split} of some in the column `split`"
            )
    label = place.resolve().name
    return Corpus(recordings, found, {label: sha256()}, [*notes, note])


def folder(place: Path, column: Column) -> tuple[list[Row], list[str]]:
    """The sounds below `place`, each of the class that the first folder on its way is called, and notes."""
    if not place.is_dir():
        raise DataError(
            f"data.path={place}: there is no such folder, and it ends in none of {few(MANIFESTS)}"
        )
    if column != "label":
        raise DataError(
            f"data.path={place}: is a folder; transcripts stand in a manifest, a .csv with path,transcript"
        )
    files, notes = files_of("data.path", place), list[str]()
    sounds = [file for file in files if _is_sound(file)]
    if others := [str(file.relative_to(place)) for file in files if not _is_sound(file)]:
        notes.append(f"{counted(len(others), 'file')} that no sound's name has left out: {few(others)}")
    rows = [
        Row(str(file.relative_to(place)), file, file.relative_to(place).parts[0])
        for file in sounds
        if file.parent != place
    ]
    if not rows:
        raise DataError(f"data.path={place}: has no folder with sounds; give one folder for each class")
    classes = dict.fromkeys(row.text for row in rows)
    if {name.lower() for name in classes} <= SPLIT_NAMES.keys():
        raise DataError(
            f"data.path={place}: its folders are splits ({few(list(classes))}) and no classes; write a manifest, "
            "a .csv with the columns path, label and split"
        )
    refuse_lookalikes(f"folders of classes in {place},", classes)
    if loose := [file.name for file in sounds if file.parent == place]:
        notes.append(f"{counted(len(loose), 'sound')} in no folder of a class left out: {few(loose)}")
    return rows, notes


def sounds_in(place: Path) -> list[Path]:
    """The sound files in a folder and below it, in the order of their names, hidden ones left out."""
    return [file for file in files_of("data.path", place) if _is_sound(file)]


def _is_sound(file: Path) -> bool:
    return file.suffix.lower() in ENDINGS


def manifest(place: Path, column: Column | None, notes: list[str] | None = None) -> list[Row]:
    """The rows of a manifest; `column` None: paths alone.

    Raises:
        DataError: a column is missing, a file is not there, a text is empty, a split is none or not everywhere, a
            speaker not everywhere, or a file has two texts or splits; all problems in one message.
    """
    if not place.is_file():
        raise DataError(f"data.path={place}: there is no such file")
    table = _table(place, column, notes)
    if not table.lines:
        raise DataError(f"{place}: has no rows")
    problems = Problems()
    found = [problems.of(partial(_row, place, line, column)) for line in table.lines]
    rows = [row for row in found if row is not None]
    problems.of(lambda: _refuse_gaps(rows))
    problems.of(lambda: _refuse_contradictions(rows))
    if column == "label":
        problems.of(lambda: refuse_lookalikes("classes", dict.fromkeys(row.text for row in rows)))
    try:
        problems.refuse()
    except DataError as error:
        raise DataError(f"{place}: {error}" if len(problems) > 1 else str(error)) from None
    return rows


def _table(place: Path, column: Column | None, notes: list[str] | None) -> TextTable:
    """The cells of a manifest."""
    text = text_of_table(place)
    wanted = [("", name) for name in ("path", column) if name is not None]
    try:
        return text_table(text, wanted, notes, tabs=is_table(place, ".tsv"))
    except DataError as error:
        other = {"label": "transcript", "transcript": "label"}.get(column or "", "")
        header = [name.strip() for name in re.split(r"[,;|\t]", next(iter(text.splitlines()), ""))]
        fix = "data=transcribed" if other == "transcript" else "data=audio"
        raise DataError(f"{place}: {error}" + f"; take {fix}" * (other in header)) from None


def _row(place: Path, line: Line, column: Column | None) -> Row:
    fields = {name: normalize("NFC", " ".join(text.split())) for name, text in line.fields.items()}
    where = f"{place.name}, line {line.number} ({fields['path']})"
    file, text = place.parent / line.fields["path"].strip(), fields[column] if column else ""
    if not file.is_file():
        windows = "; write / between folders" if "\\" in fields["path"] else ""
        raise DataError(f"{where}: there is no such file (looked for {file}){windows}")
    if column and not shows(text):
        raise DataError(f"{where}: its {column} is empty; fill it in or remove the row")
    split = fields.get("split", "")
    if split.lower() not in ("", *SPLIT_NAMES):
        raise DataError(
            f"{where}: split {split!r}; give one of {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}"
        )
    return Row(where, file, text, SPLIT_NAMES.get(split.lower(), ""), fields.get("speaker", ""))


def _refuse_gaps(rows: list[Row]) -> None:
    """Raise `DataError` where some rows have a split or a speaker and others have none."""
    for name in ("split", "speaker"):
        lacking = [row.where for row in rows if not getattr(row, name)]
        if lacking and len(lacking) < len(rows):
            raise DataError(
                f"{few(lacking)}: the {name} is empty and other rows have one; fill it in, or take the column out"
            )


def _refuse_contradictions(rows: list[Row]) -> None:
    """Raise `DataError` for a file that stands in several rows with different texts or splits."""
    first: dict[Path, Row] = {}
    for row in rows:
        before = first.setdefault(row.file.resolve(), row)
        if before[2:] != row[2:]:
            what = "another text" if before.text != row.text else "another split or speaker"
            raise DataError(
                f"{row.where}: is the file of {before.where} with {what}; keep one row for each file"
            )


def _without_doubles(rows: list[Row], notes: list[str]) -> list[Row]:
    """The rows without those of a file that stood before: it would be in two splits; they are told."""
    first: dict[Path, Row] = {}
    if doubles := [row for row in rows if first.setdefault(row.file.resolve(), row) is not row]:
        notes.append(told_dropped(len(doubles), f"first: {doubles[0].where}"))
    return list(first.values())


def shared_out(
    groups: list[str], fractions: list[float], seed: int, *, whole: bool, rows: list[Row]
) -> list[str]:
    """The split of each sound, drawn from `seed`: of every group its part, or (`whole`) whole groups.

    Every split gets at least one of every group, so a group needs as many members as there are splits.
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    named = SPLITS[: len(fractions)]
    shares = [""] * len(groups)
    units = [[numbers for _, numbers in sorted(members.items())]]
    if not whole:
        units = [[[number] for number in numbers] for numbers in units[0]]
    for unit in units:
        if len(unit) < len(named):
            what = counted(len(unit), "speaker" if whole else "example")
            what += "" if whole else f" of {rows[unit[0][0]].text!r}"
            raise DataError(
                f"{rows[unit[0][0]].where}: only {what}, and each of {few(named)} needs one; add "
                "some, or say in a column `split` where each belongs"
            )
        ends = np.round(np.cumsum(fractions) * len(unit)).astype(int)
        for place in range(len(named) - 1):  # at least one for each split
            least = 1 + (ends[place - 1] if place else 0)
            ends[place] = min(max(ends[place], least), len(unit) - (len(named) - 1 - place))
        for place, unit_number in enumerate(draw.permutation(len(unit))):
            split = named[int(np.searchsorted(ends, place, side="right"))]
            for number in unit[unit_number]:
                shares[number] = split
    return shares
