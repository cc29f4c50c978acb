"""Print the script that completes `gatelab` in a shell: commands, options, groups and choices, runs, studies.

The script asks `gatelab completion words -- WORD...` at each Tab; nothing heavy is imported for it.

examples:
  gatelab completion bash >> ~/.bashrc
  gatelab completion zsh >> ~/.zshrc
  gatelab completion fish > ~/.config/fish/completions/gatelab.fish
"""

from __future__ import annotations

import argparse
import importlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from gatelab.cli.common import GROUPS, choices

BASH = r"""_gatelab() {
    local line="${COMP_LINE:0:COMP_POINT}" word
    read -r -a word <<< "$line"
    [[ "$line" == *" " ]] && word+=("")
    local current="${word[-1]}" found
    mapfile -t COMPREPLY < <(gatelab completion words -- "${word[@]:1}" 2>/dev/null)
    if [[ "$current" == *"="* && "$COMP_WORDBREAKS" == *"="* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*=}"}"}")
    fi
    for found in "${COMPREPLY[@]}"; do [[ "$found" == *[=/] ]] && compopt -o nospace; done
}
complete -o default -F _gatelab gatelab"""
ZSH = r"""_gatelab() {
    local -a found
    found=("${(@f)$(gatelab completion words -- "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    compadd -Q -S '' -- ${(M)found:#*[=/]}
    compadd -Q -- ${found:#*[=/]}
    [[ -n "${found[1]}" ]] || { compset -P '*='; _files; }
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _gatelab gatelab"""
FISH = r"""function __gatelab_words
    set -l words (commandline -opc)
    gatelab completion words -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c gatelab -a '(__gatelab_words)'"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
RUNS = (
    "eval",
    "backtest",
    "generate",
    "perplexity",
    "predict",
    "explain",
    "export",
    "diff",
    "reproduce",
    "rm",
    "runs",
    "report",
    "sync",
    "dashboard",
)
STUDIES = ("study", "rm", "report", "dashboard")
STUDY_KEYS = ("study=", "study.seeds=", "study.n_trials=", "study.slots=", "study.workers=")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("shell", choices=(*SCRIPTS, "words"), metavar="bash|zsh|fish")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Print the script, or what completes the last word."""
    print(SCRIPTS[options.shell] if options.shell != "words" else "\n".join(complete(options.words)))
    return 0


def complete(words: Sequence[str]) -> list[str]:
    """What may stand in place of the last of the words that follow `gatelab`."""
    from gatelab.cli.main import COMMANDS

    *before, last = words or [""]
    command = next((word for word in before if not word.startswith("-")), None)
    if command is None:
        known: Iterable[str] = [*COMMANDS, "--help", "--version"]
    elif command not in COMMANDS:
        known = ()
    elif last.startswith("-"):
        known = _options(command)
    elif before[-1] in ("--config-dir", "--output", "--input", "--keep"):
        known = ()  # the shell's own files
    else:
        known = _values(command, last, _folders(before))
    return sorted({word for word in known if word.startswith(last)})


def _folders(before: Sequence[str]) -> list[Path]:
    """The folders that `--config-dir` names."""
    pairs = itertools.pairwise(before)
    joined = [word.partition("=")[2] for word in before if word.startswith("--config-dir=")]
    return [Path(folder) for folder in [*joined, *(b for a, b in pairs if a == "--config-dir")]]


def _options(command: str) -> list[str]:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"gatelab.cli.{command}").add_arguments(parser)
    return [option for option in parser._option_string_actions if option.startswith("--")]


def _values(command: str, last: str, folders: Sequence[Path]) -> list[str]:
    from gatelab.cli.main import OVERRIDES
    from gatelab.run.record.find import default_runs, run_directories

    found: list[str] = []
    if command in OVERRIDES:
        groups = (*GROUPS, *(("launcher", "search") if command == "sweep" else ()))
        group, equals, _ = last.partition("=")
        if equals and group in groups:
            return [f"{group}={name}" for folder in (None, *folders) for name in choices(group, folder)]
        found += [f"{group}=" for group in groups]
        found += [*keys(folders), "paths.root=", "seed=", "tags=", "note="]
        found += STUDY_KEYS if command == "sweep" else ()
    if command in RUNS:
        runs = [path for path in run_directories(default_runs()) if not path.name.startswith(".")]
        found += [spelling for path in runs for spelling in (path.name, str(path))]
    if command in STUDIES:
        found += [file.parent.name for file in (default_runs().parent / "studies").glob("*/study.json")]
    return [*found, *SCRIPTS] if command == "completion" else found


def keys(folders: Sequence[Path] = ()) -> list[str]:
    """`GROUP.KEY=` of every key at the top of some choice of a group."""
    from gatelab.run import CONF_DIR

    found = set()
    for group in GROUPS:
        for file in (file for folder in (CONF_DIR, *folders) for file in (folder / group).glob("*.yaml")):
            lines = file.read_text().splitlines() if group not in ("experiment", "debug") else ()
            names = (line.partition(":")[0] for line in lines if line[:1].isalpha() and ":" in line)
            found |= {f"{group}.{name}=" for name in names if name != "defaults"}
    return sorted(found)
