"""Find a run by its path, or by a unique beginning of its name or its hash, everywhere a command takes a run.

    gatelab eval runs/ptb_gru/1a2b3c4d-s0     the directory
    gatelab eval 1a2                          the one run whose hash begins so
    gatelab eval ptb_gru/                     the only run of that name
    gatelab eval runs/ptb_gru                 the only run in a folder

Runs are looked for below `runs/` in the current folder, or in GATELAB_ROOT. Earlier runs that were set aside
(`NAME.old-1`) are found by their whole path only.
"""

from __future__ import annotations

import os
from pathlib import Path

from gatelab.data.messages import counted, did_you_mean
from gatelab.run import RequestError

SHOWN = 8
"""Candidates that a message names at most."""


def default_runs() -> Path:
    """Where runs are unless `paths.root` says something else."""
    return Path(os.environ.get("GATELAB_ROOT") or ".") / "runs"


def run_directories(runs: str | Path) -> list[Path]:
    """Every run directory of the layout `<runs>/<name>/<hash>-s<seed>/`, sorted."""
    return folders_with("run.json", runs, "*/*")


def folders_with(name: str, folder: str | Path, pattern: str) -> list[Path]:
    """The folders below `folder` that `pattern` matches and that have a file `name`, sorted."""
    return sorted(path for path in Path(folder).glob(pattern) if has(path, name))


def has(folder: Path, name: str) -> bool:
    """Whether a folder has a file of this name, also one that cannot be read: a link to nothing, or no permission."""
    try:
        os.lstat(folder / name)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def find_run(given: str | Path, runs: str | Path | None = None) -> Path:
    """The run directory that `given` means: an existing folder or the only run in it, else the run that begins so.

    Args:
        given: a path, or the beginning of `runs/NAME/HASH-sSEED`, `NAME/HASH-sSEED` or `HASH-sSEED`.
        runs: where to look.

    Raises:
        RequestError: no run begins so, or several do; they are named.
    """
    text, folder = str(given), default_runs() if runs is None else Path(runs)
    inside = Path(text)
    is_folder = bool(text.strip()) and os.path.isdir(text)  # `Path.is_dir` raises for some texts
    if is_folder:
        below = [] if has(inside, "run.json") else runs_below(inside)
        if len(below) > 1:
            raise RequestError(f"{given}: holds {counted(len(below), 'run')}; name one:{_listed(below)}")
        if below or has(inside, "run.json"):
            return below[0] if below else inside
    known = [path for path in run_directories(folder) if not set_aside(path)]
    exact = [path for path in known if text.rstrip("/") in _spellings(path)]
    found = exact or [path for path in known if text and any(s.startswith(text) for s in _spellings(path))]
    if len(found) == 1:
        return found[0]
    if not found and is_folder:  # a folder of something else
        return inside
    if not found:
        names = {spelling for path in known for spelling in (*_spellings(path), path.parent.name)}
        names |= {path.name for path in folders_with("study.json", folder.parent / "studies", "*")}
        listed = "`gatelab runs` lists the runs there are; elsewhere give the path or GATELAB_ROOT."
        hint = did_you_mean(text, names) or f" {listed}"
        if text and has(folder.parent / "studies" / text, "study.json"):
            hint = f" It is a study: `gatelab study {text}` lists its runs."
        raise RequestError(f"{given}: no such run directory, and no run below {folder} begins so.{hint}")
    raise RequestError(f"{given}: {counted(len(found), 'run')} begin so; give more of one:{_listed(found)}")


def runs_below(folder: Path) -> list[Path]:
    """The runs in a folder of runs, a `runs/`, or a folder that holds one; without those that were set aside."""
    direct = folders_with("run.json", folder, "*")
    found = [*direct, *run_directories(folder), *run_directories(folder / "runs")]
    return sorted(path for path in found if not set_aside(path))


def set_aside(run: Path) -> bool:
    """Whether a directory is an earlier run that `--force` kept under another name."""
    return ".old-" in run.name


def _listed(runs: list[Path]) -> str:
    more = f"\n  and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    return "".join(f"\n  {path}" for path in runs[:SHOWN]) + more


def _spellings(path: Path) -> tuple[str, ...]:
    return path.name, f"{path.parent.name}/{path.name}", str(path)
