"""A record of studies below `experiments/`: written once from the studies, checked for ever after without them.

`experiments/NNN-slug/` gets results.csv, record.json, README.template.md (question and conclusion, a person's), and
what is made from them: README.md and figure.png. Checking makes the page again and compares; the figure carries the
sha256 of the data that it was drawn from, because its pixels depend on the drawing library.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from gatelab.report.picture import write_picture
from gatelab.report.record_data import pack, read_json, unpack
from gatelab.report.record_page import fill, template
from gatelab.run.errors import RequestError
from gatelab.study.analysis.read import read_study
from gatelab.study.analysis.state import StudyState, short_names

NAME = re.compile(r"(\d{3})-([a-z0-9]+(?:-[a-z0-9]+)*)")


def record_target(given: str | Path) -> Path:
    """The folder of a record: `given` itself, or for a name without a number the next one beside the others.

    A slug alone (`hidden-size`) means `experiments/`; the record of that slug, if there is one.

    Raises:
        RequestError: a name that cannot be a record's.
    """
    path = Path(given)
    if NAME.fullmatch(path.name):
        return path
    if not NAME.fullmatch(f"000-{path.name}"):
        raise RequestError(f"{given}: a record is called NNN-slug or slug, e.g. hidden-size.")
    folder = Path("experiments") if path.parent == Path() else path.parent
    known = [match for there in folder.glob("*") if (match := NAME.fullmatch(there.name))]
    same = [match for match in known if match[2] == path.name]
    number = int(same[0][1]) if same else max((int(match[1]) for match in known), default=0) + 1
    return folder / f"{number:03d}-{path.name}"


def first_words(states: Sequence[StudyState]) -> tuple[str, str]:
    """A question and a conclusion to begin with, as `write_record` takes them; a person says it better."""
    questions, conclusions = [], []
    for state in states:
        names = " and ".join(short_names(state.keys).values()) or "configuration"
        metric = " and ".join(objective.metric for objective in state.objectives)
        questions.append(f"{state.name}: which {names.replace('_', ' ')} for the best {metric}?")
        conclusions.append(f"{state.name}: best was {{{{best {state.name}}}}}. {{{{verdict {state.name}}}}}")
    return " ".join(questions), "\n\n".join(conclusions)


def write_record(
    studies: Sequence[str | Path],
    target: str | Path,
    question: str | None = None,
    conclusion: str | None = None,
    *,
    title: str | None = None,
) -> list[Path]:
    """Write the record of finished studies.

    Args:
        studies: their folders, in the order of the page.
        target: `experiments/NNN-slug`.
        question, conclusion: Markdown, for a new template. It may hold `{{best STUDY}}` and
            `{{value STUDY model=gru hidden_size=128}}`, which become figures with their intervals. Without them the
            template that is there is kept, so that it can be edited by hand.
        title: the page's; None: from the folder's name.

    Returns:
        the files.

    Raises:
        RequestError: no studies, two of one name, trials that are still open, a name that is not NNN-slug, no template.
    """
    target = Path(target)
    named = NAME.fullmatch(target.name)
    if named is None:
        raise RequestError(f"{target}: a record is called NNN-slug, e.g. 002-hidden-size.")
    states = [read_study(study) for study in studies]
    names = [state.name for state in states]
    if not states or len(set(names)) < len(names):
        raise RequestError(f"{target}: give studies of different names, got {', '.join(names) or 'none'}.")
    for state in states:
        if state.state != "finished":
            raise RequestError(
                f"{state.directory}: the study is {state.state}; a record is of finished ones."
            )
    if (question is None) != (conclusion is None):
        raise RequestError(
            f"{target}: give the question and the conclusion, or neither to keep the template."
        )
    if question is None and not (target / "README.template.md").is_file():
        raise RequestError(f"{target}: there is no README.template.md yet; give question and conclusion.")
    results, asked = pack(states)
    target.mkdir(parents=True, exist_ok=True)
    _put(target / "results.csv", results)
    _put(target / "record.json", json.dumps(asked, indent=1) + "\n")
    if question is not None and conclusion is not None:
        heading = title or f"{named[1]}: {named[2].replace('-', ' ')}"
        _put(target / "README.template.md", template(heading, question, conclusion, unpack(target)))
    return render(target)


def render(record: str | Path) -> list[Path]:
    """Make README.md and figure.png of a record from its other files, e.g. after its template was edited.

    Raises:
        RequestError: a file that is missing or cannot be read; a placeholder that cannot be filled.
    """
    record = Path(record)
    _put(record / "README.md", _page(record))
    figure = write_picture(unpack(record), record / "figure.png", note=_fingerprint(record))
    assert figure is not None
    return sorted(path for path in record.iterdir() if path.is_file())


def check_record(record: str | Path) -> list[str]:
    """What does not hold about a record, one sentence each; empty if all is well. Writes nothing."""
    record = Path(record)
    problems = [
        f"{name}: missing"
        for name in ("README.md", "README.template.md", "results.csv", "record.json", "figure.png")
        if not (record / name).is_file()
    ]
    if problems:
        return problems
    try:
        page = _page(record)
        problems += list(_incomplete(record))
    except RequestError as error:
        return [str(error)]
    except (ValueError, KeyError, TypeError) as error:
        return [f"results.csv or record.json: not what was written ({type(error).__name__}: {error})"]
    there = (record / "README.md").read_text()
    if there != page:
        pairs = enumerate(zip(there.splitlines(), page.splitlines(), strict=False), 1)
        line, (old, new) = next(((n, p) for n, p in pairs if p[0] != p[1]), (0, ("its length", "another")))
        problems.append(f"README.md, line {line}: says {old!r}, and the data say {new!r}")
    if _note_of(record / "figure.png") != _fingerprint(record):
        problems.append("figure.png: was drawn from other data")
    return problems


def _incomplete(record: Path) -> list[str]:
    """Finished trials without all of their runs."""
    problems = []
    for state in unpack(record):
        wanted = max(1, len(state.settings.get("seeds") or [])) * int(state.settings.get("folds") or 1)
        short = [t.number for t in state.trials if t.state == "done" and len(t.runs) != wanted]
        if short:
            problems.append(f"results.csv: {state.name}, trial {short[0]} is done without its {wanted} runs")
        if state.state != "finished":
            problems.append(f"results.csv: the study {state.name} is {state.state}")
    return problems


def _page(record: Path) -> str:
    text = (record / "README.template.md").read_text()
    return fill(text, unpack(record), read_json(record / "record.json"))


def _fingerprint(record: Path) -> str:
    data = (record / "results.csv").read_bytes() + (record / "record.json").read_bytes()
    return hashlib.sha256(data).hexdigest()


def _note_of(figure: Path) -> str | None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(figure) as image:
            return str(image.info.get("Description"))
    except (UnidentifiedImageError, OSError):
        return None


def _put(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
