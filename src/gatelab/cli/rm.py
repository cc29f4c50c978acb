"""Remove runs and studies: show what goes, ask, and refuse what a study or an experiment record needs.

A run of a study is removed only with its study (--runs). A study or run that a record below experiments/ needs, or that
is running now, is never removed. There is no way back: nothing is renamed or kept.

examples:
  gatelab rm 1a2b3c4d-s0                               one run, by a unique beginning of its name or hash
  gatelab rm runs/scratch                              every run of a folder
  gatelab rm size --runs                               the study and the runs that no other study holds
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from gatelab.cli.common import split_root
from gatelab.data.messages import counted
from gatelab.run import RequestError
from gatelab.tasks.signals import noted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "arguments", nargs="+", metavar="RUN|STUDY", help="what to remove; paths.root=DIR says where it lies"
    )
    parser.add_argument(
        "--runs", action="store_true", help="with a study its runs, those of other studies not"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    """Show, ask, remove."""
    from gatelab.run.record.directory import RunDirectory

    given, root = split_root(options.arguments)
    studies, runs = _meant(given, root)
    if options.runs and not studies:
        raise RequestError("--runs is for a study: it removes the study's runs too.")
    held = _held(root, [*studies, *(run.parents[2] / "studies" for run in runs)])
    others = {run for study, its in held.items() if study not in studies for run in its}
    stay = 0
    for study in studies:
        if options.runs:
            runs |= dict.fromkeys(sorted(run for run in held[study] - others if _is_below(study, run)))
        stay += sum(run.is_dir() for run in held[study] - runs.keys())
    if problems := [*_needed(studies, runs, held, root), *_at_work(studies)]:
        raise RequestError("\n".join([*problems, "Nothing was removed."]))
    for path in (*studies, *runs):
        print(f"{path}  ({_size(path)})")
    if stay:
        why = (
            "other studies hold them, or they lie elsewhere"
            if options.runs
            else "--runs removes those below its root"
        )
        print(f"{counted(stay, 'run')} of the study stay; {why}")
    if not options.yes and not _agreed(len(studies) + len(runs)):
        print("nothing was removed")
        return 1
    with contextlib.ExitStack() as locks, noted():  # what was agreed is not left half done
        for path in runs:  # before anything goes: one that trains now refuses
            locks.enter_context(RunDirectory(path).locked())
        for path in (*studies, *runs):
            _remove(path)
    for path in runs:
        path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other runs are there
            path.parent.rmdir()
    print(f"removed {counted(len(studies) + len(runs), 'folder')}")
    return 0


def _meant(given: Sequence[str], root: Path) -> tuple[dict[Path, None], dict[Path, None]]:
    """The studies and the runs that are meant, absolute."""
    from gatelab.run.record.find import find_run, folders_with, has, run_directories

    studies: dict[Path, None] = {}
    runs: dict[Path, None] = {}
    for text in given:
        named = root / "studies" / text
        path = next((p for p in (Path(text), named) if has(p, "study.json")), None)
        if path is not None:
            studies[path.absolute()] = None
            continue
        path = Path(text) if text and Path(text).is_dir() else find_run(text, root / "runs")
        inside = [path] if has(path, "run.json") else folders_with("run.json", path, "*")
        if not inside:
            more = " Give a folder below it, or its runs." if run_directories(path) else ""
            raise RequestError(f"{text}: neither a run nor a study, nor a folder of runs.{more}")
        runs |= dict.fromkeys(path.absolute() for path in inside)
    return studies, runs


def _held(root: Path, more: Iterable[Path]) -> dict[Path, set[Path]]:
    """Each study below `root`, and below the roots of what is removed -> its run directories."""
    from gatelab.run.record.find import folders_with
    from gatelab.study.analysis.read import read_study
    from gatelab.study.members import runs_of_study

    folders = {(root / "studies").absolute(), *(p if p.name == "studies" else p.parent for p in more)}
    found = {}
    for study in sorted(s for folder in folders for s in folders_with("study.json", folder.absolute(), "*")):
        found[study] = runs_of_study(study)
        with contextlib.suppress(RequestError, OSError):
            found[study] |= {
                run.directory.absolute() for trial in read_study(study).trials for run in trial.runs
            }
    return found


def _is_below(study: Path, run: Path) -> bool:
    """Whether a run that a study names is one, below the study's root: what is in its files may be a stranger's."""
    return (run / "run.json").is_file() and run.resolve().is_relative_to(study.resolve().parents[1])


def _needed(
    studies: Iterable[Path], runs: Iterable[Path], held: dict[Path, set[Path]], root: Path
) -> list[str]:
    """Why some of it has to stay, a line for each."""
    found = []
    for run in runs:
        if holders := [s.name for s, its in held.items() if s not in studies and {run, run.resolve()} & its]:
            found.append(
                f"{run}: the study {', '.join(holders)} needs it; `gatelab rm STUDY --runs` removes both."
            )
    for record in dict.fromkeys((*Path("experiments").glob("*/"), *(root / "experiments").glob("*/"))):
        named, names = _named_in(record)
        found += [
            f"{s}: the experiment record {record} was made from it." for s in studies if s.name in names
        ]
        whole = {"/".join(run.parts[-2:]): run for run in runs}
        found += [
            f"{whole[key]}: the experiment record {record} needs it." for key in sorted(named & whole.keys())
        ]
    return found


def _named_in(record: Path) -> tuple[set[str], set[str]]:
    """The runs (`NAME/HASH-sSEED`) and the studies that a record's results.csv names."""
    try:
        rows = list(csv.DictReader((record / "results.csv").read_text().splitlines()))
    except (OSError, ValueError, csv.Error):
        return set(), set()
    return {row["run"] for row in rows if row.get("run")}, {row["study"] for row in rows if row.get("study")}


def _at_work(studies: Iterable[Path]) -> list[str]:
    from gatelab.study.engine.directory import StudyDirectory
    from gatelab.study.sweep import living

    found = []
    for path in studies:
        if alive := living(StudyDirectory(path)):
            found.append(f"{path}: {counted(len(alive), 'worker')} at work on it; stop the sweep first.")
        url = StudyDirectory(path).storage_url()
        if not url.startswith("journal://"):
            found.append(f"{path}: its trials are kept in study.storage, which this command does not touch.")
    return found


def _size(path: Path) -> str:
    files = [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return f"{counted(len(files), 'file')}, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB"


def _agreed(number: int) -> bool:
    if not sys.stdin.isatty():
        raise RequestError("there is nobody to ask; --yes removes without asking. Nothing was removed.")
    return input(f"remove {counted(number, 'folder')} for good? [y/N] ").strip().lower() in ("y", "yes")


def _remove(path: Path) -> None:
    """Take a folder out of sight in one step, then delete it; of a link the link alone."""
    if path.is_symlink():
        path.unlink()
        return
    hidden = path.with_name(f".{path.name}.removed")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden)
