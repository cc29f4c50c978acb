"""The page of a record: `README.template.md` with every `{{name STUDY ...}}` replaced by what the data say.

A person writes the template: question, words, conclusion. Figures come from `results.csv` alone, also those inside
sentences: `{{value ptb model=gru hidden_size=128}}`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gatelab.report.picture import choose_by, choose_x
from gatelab.run.errors import RequestError
from gatelab.run.messages import counted, nearest
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.leaderboard import columns, leaderboard, verdict
from gatelab.study.analysis.state import StudyState, Trial, duration, short_names, show
from gatelab.study.analysis.statistics import decimals, over_what, summarise, values_of

PLACEHOLDER = re.compile(r"\{\{(\w+)((?: [^}]*)?)\}\}")
WIDTH = 120
LONG, SHORT = 40, 30  # rows of a table


def template(title: str, question: str, conclusion: str, states: Sequence[StudyState]) -> str:
    """A page to begin with; `title` is the first line, question and conclusion are Markdown."""
    blocks = [f"# {title}", _wrap(f"**Question.** {question}"), "**Command.**\n\n{{commands}}"]
    blocks += [
        "`results.csv` has one row a run and `record.json` what was asked; this page and `figure.png` are made from\n"
        "them alone. `python scripts/check_experiments.py` makes the page again and fails where it differs.",
        "## Result",
        f"![{_alt(states)}](figure.png)",
    ]
    for state in states:
        blocks += [f"### {state.name}"] if len(states) > 1 else []
        blocks += parts(state.name)
    blocks += ["## Conclusion", conclusion.strip(), "**Versions.** {{versions}}"]
    return "\n\n".join(blocks) + "\n"


def parts(study: str) -> list[str]:
    """The placeholders that tell everything about one study, in their order."""
    return [f"{{{{{name} {study}}}}}" for name in ("about", "table", "verdict", "importance", "cost")]


def _alt(states: Sequence[StudyState]) -> str:
    what = " and ".join(f"{state.objectives[0].name} of {state.name}" for state in states)
    return f"{what} over {choose_x(states[0]).rpartition('.')[2].replace('_', ' ')}"


def fill(text: str, states: Sequence[StudyState], asked: Mapping[str, Any]) -> str:
    """The page of a template.

    Raises:
        RequestError: a placeholder that does not exist, a study or a point that is not in the record.
    """
    named = {state.name: state for state in states}

    def replaced(match: re.Match[str]) -> str:
        name, words = match[1], match[2].split()
        if name == "commands":
            return _commands(states)
        if name == "versions":
            return _versions(asked)
        if name not in FILLERS:
            known = ["commands", "versions", *FILLERS]
            raise RequestError(f"README.template.md: no '{{{{{name}}}}}'.{nearest(name, known)}")
        if not words or words[0] not in named:
            raise RequestError(f"README.template.md: {match[0]} names no study of {', '.join(named)}.")
        return FILLERS[name](named[words[0]], words[1:])

    return PLACEHOLDER.sub(replaced, text)


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _commands(states: Sequence[StudyState]) -> str:
    lines = "\n".join(state.command for state in states)
    return f"```bash\n{lines}\n```"


def _about(state: StudyState, _: Sequence[str]) -> str:
    metric = state.objectives[0]
    better = "lower" if metric.sign > 0 else "higher"
    text = f"`{metric.metric}` ({better} is better): {over_what(state)}."
    if state.baselines:
        known = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in state.baselines.items())
        text += f" Trivial models on the same positions: {known}."
    return _wrap(text)


def _table(state: StudyState, words: Sequence[str]) -> str:
    """The leaderboard; of a long one, or with a number behind the study's name, only the first rows."""
    rows = leaderboard(state)
    most = int(words[0]) if words and words[0].isdigit() else len(rows) if len(rows) <= LONG else SHORT
    found = {title: cells[:most] for title, cells in columns(state, rows).items()}
    lines = [f"| {' | '.join(found)} |", "|" + "---|" * len(found)]
    lines += [f"| {' | '.join(cells)} |" for cells in zip(*found.values(), strict=True)]
    notes = [f"The other {len(rows) - most} are in `results.csv`."] if most < len(rows) else []
    for name in ("pruned", "failed"):
        trials = [trial for trial in state.trials if trial.state == name]
        texts = [f"{trial.number}{f' ({trial.error})' if trial.error else ''}" for trial in trials]
        notes += [f"{name.capitalize()}: trial {', '.join(texts)}."] if texts else []
    return "\n".join(lines) + (f"\n\n{_wrap(' '.join(notes))}" if notes else "")


def _verdict(state: StudyState, _: Sequence[str]) -> str:
    return _wrap(verdict(state, leaderboard(state)))


def _importance(state: StudyState, _: Sequence[str]) -> str:
    found = importance(state)
    names = short_names(state.keys)
    notes = " ".join(found.notes)
    if not found.shares:
        return _wrap(notes)
    lines = [f"| {names[share.key]} | {share.share:.1%} |" for share in found.shares]
    return "\n".join(["| importance | share |", "|---|---|", *lines]) + f"\n\n{_wrap(notes)}"


def _cost(state: StudyState, _: Sequence[str]) -> str:
    """What the study and each cell cost: seconds of training, and parameters from the smallest to the largest."""
    by = choose_by(state, choose_x(state))
    groups: dict[str, list[Trial]] = {}
    for trial in state.trials:
        groups.setdefault(show(trial.params.get(by, "none")) if by else "all", []).append(trial)
    lines = [f"| {short_names(state.keys)[by] if by else ''} | runs | training | a run | parameters |"]
    lines.append("|---|---|---|---|---|")
    if len(groups) > 1:
        groups["all"] = list(state.trials)
    for name, trials in groups.items():
        runs = sum(run.value is not None for trial in trials for run in trial.runs)
        seconds = sum(trial.seconds or 0.0 for trial in trials)
        sizes = sorted({trial.parameters for trial in trials if trial.parameters is not None})
        span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}" if sizes else ""
        each = f"{seconds / runs:,.1f} s" if runs else ""
        lines.append(f"| {name} | {runs} | {duration(seconds)} | {each} | {span} |")
    return "\n".join(["What it cost (seconds of training, test and validation not counted):\n", *lines])


def _best(state: StudyState, _: Sequence[str]) -> str:
    return _named(state, leaderboard(state)[0].trial)


def _value(state: StudyState, words: Sequence[str]) -> str:
    return _text(_find(state, words))


def _find(state: StudyState, words: Sequence[str]) -> Trial:
    """The best trial with these parameters, each `key=value` with the key in short or whole."""
    names = {short: key for key, short in short_names(state.keys).items()} | {key: key for key in state.keys}
    wanted: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in names:
            raise RequestError(
                f"README.template.md: {name}: no parameter of {state.name}.{nearest(name, names)}"
            )
        wanted[names[name]] = value
    for row in leaderboard(state):
        if all(show(row.trial.params.get(key)) == value for key, value in wanted.items()):
            return row.trial
    raise RequestError(f"README.template.md: {state.name} has no finished trial with {' '.join(words)}.")


def _text(trial: Trial) -> str:
    summary = summarise(list(values_of(trial.runs).values()))
    return summary.text(decimals([summary]))


def _named(state: StudyState, trial: Trial) -> str:
    names = short_names(state.keys)
    params = ", ".join(f"{names[key]} {show(value)}" for key, value in trial.params.items())
    return f"{params}: {_text(trial)}"


def _versions(asked: Mapping[str, Any]) -> str:
    texts = list(dict.fromkeys(ran_on(study["environment"]) for study in asked["studies"]))
    return _wrap("; ".join(texts))


def ran_on(environment: Mapping[str, Any]) -> str:
    """What `record_data.environment_of` gave, in words."""
    versions = environment.get("versions") or {}
    known = [f"{n} {versions[n]}" for n in ("gatelab", "torch", "pytorch-lightning") if n in versions]
    if environment.get("python"):
        known.append(f"Python {environment['python']}")
    known += [str(environment[key]) for key in ("cpu", "cpu_capability") if environment.get(key)]
    known += [str(gpu) for gpu in environment.get("gpus") or []]
    if environment.get("threads"):
        known.append(f"{counted(environment['threads'], 'thread')} a run")
    if environment.get("revision"):
        changed = " with uncommitted changes" if environment.get("changed") else ""
        known.append(f"commit {environment['revision'][:12]}{changed}")
    return ", ".join(known) + "." if known else "Not recorded."


FILLERS: dict[str, Callable[[StudyState, Sequence[str]], str]] = {
    "about": _about,
    "table": _table,
    "verdict": _verdict,
    "importance": _importance,
    "cost": _cost,
    "best": _best,
    "value": _value,
}
