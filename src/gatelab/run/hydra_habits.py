"""Options and keys of a `@hydra.main` program, and what does the same in Gatelab, which composes with Hydra only."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

MOVES = "paths.root=DIR moves everything that is written; a run's folder follows from its configuration and name=NAME"
KEYS = {
    "hydra.run.dir": MOVES,
    "hydra.sweep": MOVES,
    "hydra.output_subdir": f"{MOVES}, and its run.json holds the configuration",
    "hydra.job.name": "name=NAME names a run, study=NAME a study",
    "hydra.job.chdir": "a run never leaves the folder that it was started in; leave it out",
    "hydra.job": "a run keeps what it was started with in run.json; leave it out",
    "hydra.mode": "`gatelab sweep` tries many configurations, `gatelab train` one",
    "hydra.sweeper": "study.strategy=, study.n_trials= and study.sampler_options.KEY= of `gatelab sweep`",
    "hydra.launcher": "launcher=NAME and launcher.KEY= of `gatelab sweep`",
    "hydra.searchpath": "--config-dir DIR adds a folder of configurations",
    "hydra.verbose": "what is printed is the same always; GATELAB_TRACEBACK=1 shows the traceback of an error",
    "hydra.callbacks": "callbacks.NAME= are Lightning's",
}
"""The beginning of a key -> what does the same; the first that fits counts. `hydra/launcher` is read as a key too."""

CHECK = "`{}` prints the configuration and where the run would lie"
SWEEP = "`{}` tries all combinations"
OPTIONS = {
    ("-m", "--multirun"): ("sweep", SWEEP, 0),
    ("-c", "--cfg"): ("check", CHECK, 1),
    ("-i", "--info"): ("check", CHECK, "?"),
    ("--resolve",): ("check", f"{CHECK}, every reference resolved", 0),
    ("-cn", "--config-name"): (None, "`{}` takes a whole configuration by its name", 1),
    ("-cd",): (None, "`{}`: the option is --config-dir", 1),
    ("-cp", "--config-path"): (None, "`{}` adds a folder of configurations", 1),
    ("-r", "--run"): (None, "`{}`: it is what the command does anyway", 0),
    ("-p", "--package"): (
        None,
        "`{}`: the package stands in a configuration file's first line, # @package",
        1,
    ),
    ("--hydra-help",): (None, "`gatelab COMMAND --help` lists the groups and their choices", 0),
    ("-sc", "--shell-completion"): (None, "`gatelab completion bash` prints the shell's completion", "?"),
    ("--experimental-rerun",): (None, "`gatelab reproduce RUN_DIR` trains a recorded run again", 1),
}
"""Options -> the command that does the same (None: the given one), a sentence about it, how many words follow."""
REPLACED = {"-cn": "experiment={}", "--config-name": "experiment={}"}
REPLACED |= dict.fromkeys(("-cd", "-cp", "--config-path"), "--config-dir {}")
INFOS = (
    "all",
    "config",
    "defaults",
    "defaults-tree",
    "plugins",
    "searchpath",
    "install",
    "uninstall",
    "query",
)


def refuse_key(override: str) -> str | None:
    """What to write instead of an override of a key of Hydra's or of a sweep's; None for any other."""
    key = override.lstrip("+~").partition("=")[0].split("@")[0].replace("/", ".")
    if key.partition(".")[0] in ("study", "launcher", "search"):
        return f"{override}: is for `gatelab sweep`, which trains many runs."
    if key != "hydra" and not key.startswith("hydra."):
        return None
    here = (text for start, text in KEYS.items() if f"{key}.".startswith(f"{start}."))
    return f"{override}: {next(here, 'nothing here reads it; leave it out')}."


def refuse_option(command: str, arguments: Sequence[str]) -> str | None:
    """What to type instead of a command line with an option of Hydra's; None if it has none."""
    for at, word in enumerate(arguments):
        option, equals, value = word.partition("=")
        row = next((row for names, row in OPTIONS.items() if option in names), None)
        if row is None or not option.startswith("-"):
            continue
        other, text, takes = row
        rest, following = [*arguments[:at]], list(arguments[at + 1 :])
        wanted = takes == 1 or (takes == "?" and bool(following) and following[0] in INFOS)
        if not equals and wanted and following:
            value = following.pop(0)
        name = (
            value.removesuffix(".yaml").rpartition("/")[2]
            if "experiment" in REPLACED.get(option, "")
            else value
        )
        more = shlex.split(REPLACED[option].format(shlex.quote(name or "NAME"))) if option in REPLACED else []
        following = [word for word in following if word not in ("--resolve", "-r", "--run")]
        typed = shlex.join(["gatelab", other or command, *rest, *more, *following])
        return f"{option} is an option of Hydra's own programs: {text.format(typed)}."
    return None
