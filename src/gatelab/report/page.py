"""A report as one HTML page that needs no network: tables and interactive pictures, the library that draws them inside.

It holds the same figures as `gatelab study` prints. Where something cannot be shown (runs whose files are gone) that is
said. The page is put in place in one step.
"""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Sequence
from pathlib import Path

from gatelab.report.gather import KINDS, Subject
from gatelab.report.html import Figures, paragraph, text
from gatelab.report.section import section
from gatelab.run.record.directory import now
from gatelab.run.record.environment import versions

HERE = Path(__file__).parent


def write_page(
    subjects: Sequence[Subject],
    output: str | Path,
    *,
    notes: Sequence[str] = (),
    samples: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> Path:
    """Write the page.

    Args:
        subjects: what it is about, in its order.
        output: the file; links to run directories are relative to it.
        notes: what could not be read.
        samples: let the best run of each subject forecast or write a little.
        tick: called after each run that was read.

    Returns:
        the file.
    """
    from plotly.offline import get_plotlyjs

    output = Path(output)
    figures = Figures()
    sections = [
        section(place, subject, output, figures, samples=samples, tick=tick)
        for place, subject in enumerate(subjects)
    ]
    title = title_of(subjects)
    page = string.Template((HERE / "page.html").read_text()).substitute(
        title=text(title),
        version=text(versions()["gatelab"]),
        style=(HERE / "page.css").read_text(),
        about=_about(subjects, notes),
        body="\n".join(sections),
        figures=figures.data(),
        plotly=get_plotlyjs(),
        script=(HERE / "page.js").read_text(),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, output)
    return output


def title_of(subjects: Sequence[Subject]) -> str:
    """`Report: size-text, size-series`, of many only the first names."""
    names = [subject.state.name for subject in subjects]
    more = f" and {len(names) - 4} more" if len(names) > 5 else ""
    return f"Report: {', '.join(names[:4] if more else names)}{more}"


def _about(subjects: Sequence[Subject], notes: Sequence[str]) -> str:
    runs = sum(len(trial.runs) for subject in subjects for trial in subject.state.trials)
    kinds = list(dict.fromkeys(KINDS[subject.kind] for subject in subjects))
    said = [
        paragraph(
            f"{runs} run{'s' * (runs != 1)}, from {' and '.join(kinds)}. Written {now()[:16].replace('T', ' ')} UTC.",
            kind="faint",
        )
    ]
    if len(subjects) > 1:
        entries = "".join(
            f'<li><a href="#part-{place}">{text(subject.state.name)}</a></li>'
            for place, subject in enumerate(subjects)
        )
        said.append(f'<nav aria-label="Parts of the report"><ul>{entries}</ul></nav>')
    said += [paragraph(f"Not read: {note}", kind="warn") for note in notes]
    return "\n".join(said)
