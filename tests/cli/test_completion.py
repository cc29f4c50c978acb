"""Whatever completion offers begins with what was typed and is a word that the command takes."""

import argparse
import importlib
import shutil
import subprocess
import sys

import pytest

from gatelab.cli.common import choices
from gatelab.cli.completion import RUNS, SCRIPTS, complete
from gatelab.cli.main import COMMANDS, main


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in ("ptb/1a2b3c4d-s0", "ptb/2b3c4d5e-s0"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    (tmp_path / "studies" / "size").mkdir(parents=True)
    (tmp_path / "studies" / "size" / "study.json").write_text("{}")
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "myown.yaml").write_text("speed: 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_groups_choices_options_runs_and_studies_are_completed(place):
    assert complete(["tra"]) == ["train"]
    assert set(complete([""])) >= set(COMMANDS)
    assert "model=" in complete(["train", "mod"])
    assert "model.hidden_size=" in complete(["train", "model.h"])
    assert complete(["train", "model="]) == [f"model={name}" for name in choices("model")]
    assert "model=myown" in complete(["train", "--config-dir", "mine", "model="])
    assert "model.speed=" in complete(["train", "--config-dir=mine", "model.s"])
    assert complete(["sweep", "launcher=l"]) == ["launcher=local"]
    assert complete(["eval", "1"]) == ["1a2b3c4d-s0"]
    assert complete(["diff", "1a2b3c4d-s0", "runs/ptb/2"]) == ["runs/ptb/2b3c4d5e-s0"]
    assert complete(["study", ""]) == ["size"]
    assert complete(["nothing", ""]) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command_is_completed(command, capsys):
    offered = complete([command, "--"])
    assert "--help" in offered
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert all(option in shown for option in offered)


def test_every_command_that_takes_a_run_is_offered_runs():
    for command in COMMANDS:
        parser = argparse.ArgumentParser()
        importlib.import_module(f"gatelab.cli.{command}").add_arguments(parser)
        assert command in RUNS or all(action.dest != "run_dir" for action in parser._actions), command


def test_completion_imports_nothing_heavy(place):
    code = (
        "import sys; from gatelab.cli.main import main; main(['completion', 'words', '--', 'train', 'model='])\n"
        "assert not {'torch', 'hydra', 'pytorch_lightning', 'pandas', 'yaml'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "model=gru" in done.stdout


BASH = """{script}
gatelab() {{ {python} -m gatelab "$@"; }}
COMP_LINE='{line}' COMP_POINT={point}; COMP_WORDBREAKS=$' \\t\\n"=:'
compopt() {{ :; }}
_gatelab; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


LINES = [
    ("gatelab tra", "train"),
    ("gatelab train model=gr", "model=gru"),
    ("gatelab train model.hid", "model.hidden_size="),
    ("gatelab eval 2", "2b3c4d5e-s0"),
    ("gatelab study s", "size"),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_the_script_for_bash_completes_the_word_at_the_cursor(line, expected, place):
    script = BASH.format(script=SCRIPTS["bash"], python=sys.executable, line=line, point=len(line))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        expected.rpartition("=")[2] or expected
    ]  # bash replaces what follows the last =


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_the_script_for_fish_completes_the_word_at_the_cursor(line, expected, place):
    if not shutil.which("fish"):
        pytest.skip("no fish here")
    gatelab = f"function gatelab; {sys.executable} -m gatelab $argv; end"
    script = f"{gatelab}\n{SCRIPTS['fish']}\ncomplete -C '{line}'"
    done = subprocess.run(["fish", "-c", script], capture_output=True, text=True, check=True)
    assert expected in done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_are_read_by_their_shells(shell):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, "-n"], input=SCRIPTS[shell], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
