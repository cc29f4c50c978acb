"""Sounds of your own: a folder with one folder a class, or a manifest, a CSV file with a row for each sound.

A manifest has the columns `path` (from the manifest's folder on) and `label` (its class) or `transcript`; and, if they
are there, `split` (train, valid or test) and `speaker`. Without `split`, sounds are shared out at random: of every
class its part, or, where there are speakers, whole speakers.
"""

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from gatelab.data.audio.recordings import Corpus, Example, read_recordings
from gatelab.data.audio.wav import ENDINGS
from gatelab.data.fetch import sha256_of
from gatelab.data.files import files_of
from gatelab.data.messages import DataError, counted, did_you_mean, few
from gatelab.data.specs import SPLITS

FRACTIONS: Final = (0.8, 0.1, 0.1)
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
    rows = manifest(place, column) if place.suffix.lower() == ".csv" else folder(place, column)
    root = place.parent if place.suffix.lower() == ".csv" else place

    def sha256() -> str:
        lines = [
            f"{row.file.relative_to(root)}\t{sha256_of(row.file)}\t{row.text}\t{row.split}\n" for row in rows
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def files() -> Iterator[tuple[str, bytes]]:
        return ((row.where, row.file.read_bytes()) for row in rows)

    recordings = read_recordings(
        lambda: {"source": sha256()}, files, channels=channels, rate=rate, cache=cache
    )
    examples = [Example(row.where, (recordings.piece(number),), row.text) for number, row in enumerate(rows)]
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
                f"data.path={path}: no sound is in the split {split}; give more, or a column `split`"
            )
    label = place.resolve().name
    return Corpus(recordings, found, {label: sha256()}, [note])


def folder(place: Path, column: Column) -> list[Row]:
    """The sounds below `place`, each of the class that the first folder on its way is called."""
    if not place.is_dir():
        raise DataError(f"data.path={place}: there is no such folder, and it does not end in .csv")
    if column != "label":
        raise DataError(
            f"data.path={place}: is a folder; transcripts stand in a manifest, a .csv with path,transcript"
        )
    rows = [
        Row(str(file.relative_to(place)), file, file.relative_to(place).parts[0])
        for file in sounds_in(place)
        if file.parent != place
    ]
    if not rows:
        raise DataError(f"data.path={place}: has no folder with sounds; give one folder for each class")
    return rows


def sounds_in(place: Path) -> list[Path]:
    """The sound files in a folder and below it, in the order of their names, hidden ones left out."""
    return [file for file in files_of("data.path", place) if file.suffix.lower() in ENDINGS]


def manifest(place: Path, column: Column | None) -> list[Row]:
    """The rows of a manifest; `column` None: paths alone.

    Raises:
        DataError: a column is missing, a file is not there, a text is empty, or a split is none.
    """
    if not place.is_file():
        raise DataError(f"data.path={place}: there is no such file")
    try:
        with place.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            names, lines = list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{place}: is not a CSV file in UTF-8 ({error})") from None
    for wanted in ("path", column) if column else ("path",):
        if wanted not in names:
            other = {"label": "transcript", "transcript": "label"}.get(wanted, "")
            fix = "; take data=transcribed" if other == "transcript" else "; take data=audio"
            raise DataError(
                f"{place}: has no column {wanted} (it has {', '.join(names) or 'none'})"
                + (fix if other in names else did_you_mean(wanted, names))
            )
    rows = [_row(place, number, line, column) for number, line in enumerate(lines, 2)]
    if not rows:
        raise DataError(f"{place}: has no rows")
    return rows


def _row(place: Path, number: int, line: dict[str, Any], column: Column | None) -> Row:
    where = f"{place.name}, row {number} ({line['path']})"
    file, text = place.parent / line["path"], " ".join(line[column].split()) if column else ""
    if not file.is_file():
        raise DataError(f"{where}: there is no such file (looked for {file})")
    if column and not text:
        raise DataError(f"{where}: its {column} is empty; fill it in or remove the row")
    split = (line.get("split") or "").strip()
    if split not in ("", *SPLITS):
        raise DataError(
            f"{where}: split {split!r}; give one of {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}"
        )
    return Row(where, file, text, split, (line.get("speaker") or "").strip())


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
