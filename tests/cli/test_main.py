"""The command line: help, exit codes, and JSON that is one document on stdout."""

import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from gatelab.cli.main import COMMANDS, RESUMABLE, main
from gatelab.data.stop_signals import STOP
from gatelab.run import CONF_DIR


def gatelab(*arguments, cwd=None):
    command = [sys.executable, "-m", "gatelab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.quick(3, rest="ci")
def test_help_of_every_command_needs_no_heavy_import(command):
    code = (
        "import sys; from gatelab.cli.main import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit as leave: assert leave.code == 0\n"
        "assert not {'torch', 'hydra', 'pytorch_lightning', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: gatelab {command}")


def help_of(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return capsys.readouterr().out


def test_an_example_of_a_help_is_one_line_that_a_shell_can_read(capsys):
    texts = [re.search(r"\nexamples?:\n(.*?)\n\n", help_of(command, capsys), re.S) for command in COMMANDS]
    lines = [line for text in texts if text for line in text[1].splitlines()]
    commands = [
        shlex.split(re.split(" {3,}", line.strip())[0]) for line in lines
    ]  # without what is said beside it
    assert len(commands) > len(COMMANDS)
    assert [words for words in commands if "gatelab" not in words] == []


@pytest.mark.parametrize("command", ["train", "sweep", "check", "baseline"])
def test_the_help_says_where_every_key_is_explained(command, capsys):
    assert f"{CONF_DIR}/train.yaml" in help_of(command, capsys)


def test_an_unknown_command_is_named_with_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "train" in capsys.readouterr().out


def test_a_wrong_request_exits_with_2_and_one_message(capsys, tmp_path):
    assert main(["train", "model.hiden_size=3", f"paths.root={tmp_path}"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_file_exits_with_2(capsys, tmp_path):
    request = ["train", "data=text", "data.path=absent.txt", f"paths.root={tmp_path}"]
    assert main(request) == 2
    assert "absent.txt" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named_with_what_to_do(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["train", "data=adding", f"paths.root={tmp_path}/file"]) == 2
    assert f"{tmp_path}/file" in (said := capsys.readouterr().err)
    assert "not a directory. Choose another place (paths.root=DIR" in said


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("enforce fail: can't allocate memory: ...")])
def test_no_memory_is_one_message(error, capsys, monkeypatch):
    monkeypatch.setattr("gatelab.cli.doctor.run", lambda _: (_ for _ in ()).throw(error))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err.startswith("gatelab doctor: out of memory: a size may be too large")


def test_check_prints_the_configuration_and_the_run_directory(capsys, tmp_path):
    assert main(["check", "experiment=quickstart", f"paths.root={tmp_path}", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["config"]["model"]["hidden_size"] == 128
    assert report["run_dir"].startswith(str(tmp_path))
    assert report["state"] == "new"


def test_check_names_the_value_that_a_constructor_refuses(capsys):
    assert main(["check", "experiment=quickstart", "model.hidden_size=-4"]) == 2
    assert "model.hidden_size: hidden_size must be greater than zero, got -4" in capsys.readouterr().err


def test_train_eval_and_runs_print_one_json_document(tmp_path):
    small = ["trainer.max_steps=2", "model.hidden_size=4", f"paths.root={tmp_path}", "callbacks=none"]
    trained = gatelab("train", "experiment=quickstart_series", *small, "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    scored = json.loads(gatelab("eval", result["run_dir"], "--json").stdout)
    assert scored["metrics"] == result["splits"]["test"]["metrics"]
    (listed,) = json.loads(gatelab("runs", f"paths.root={tmp_path}", "--json").stdout)
    assert listed["run_dir"] == result["run_dir"]
    assert listed["state"] == "done"


@pytest.mark.ci
def test_the_script_is_the_command():
    done = subprocess.run(
        [sys.executable, "scripts/train.py", "model.hiden_size=3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Did you mean 'model.hidden_size'?" in done.stderr


def test_doctor_tells_the_versions_and_no_secret(capsys, monkeypatch):
    key = "0123456789" * 4
    monkeypatch.setenv("WANDB_API_KEY", key)
    assert main(["doctor", "--json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["versions"]["torch"]
    assert json.loads(text)["wandb_key"] is True
    assert key not in text


@pytest.mark.ci
def test_a_command_goes_on_when_the_reader_of_its_output_has_left(tmp_path):
    """`gatelab train ... | head -1` trains to the end."""
    request = "data=lorenz data.lookback=8 data.horizon=4 trainer.max_epochs=1 trainer.limit_train_batches=2"
    command = (
        f"{sys.executable} -m gatelab train {request} model.hidden_size=4 paths.root={tmp_path} 2>&1 | true"
    )
    subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], check=True)
    assert len(list(tmp_path.rglob("result.json"))) == 1


@pytest.mark.ci
def test_a_command_works_without_any_output():
    assert (
        subprocess.run(["bash", "-c", f"{sys.executable} -m gatelab >&- 2>&-"], check=False).returncode == 2
    )
    assert (
        subprocess.run(["bash", "-c", f"{sys.executable} -m gatelab runs >&- 2>&-"], check=False).returncode
        == 0
    )


ARGUMENTS = {
    "eval": ["RUN"],
    "generate": ["RUN"],
    "predict": ["RUN", "--input", "a.csv", "--output", "b.csv"],
    "explain": ["RUN"],
}
ARGUMENTS |= {"export": ["RUN"], "diff": ["A", "B"], "reproduce": ["RUN"], "rm": ["RUN"]}
ARGUMENTS |= {
    "backtest": ["RUN"],
    "sync": ["RUN"],
    "perplexity": ["RUN", "a.txt"],
    "report": ["RUN"],
    "completion": ["bash"],
}


LATE = """
import os, signal, sys
from gatelab.cli.main import main

class Late:  # taken down with the module, when the interpreter handles no signal any more
    def __init__(self, number):
        self.number, self.kill, self.process = number, os.kill, os.getpid()

    def __del__(self):
        self.kill(self.process, self.number)

late = Late(getattr(signal, sys.argv[1]))
sys.argv = ["gatelab", *sys.argv[2:]]
sys.exit(main())
"""


@pytest.mark.parametrize("number", STOP, ids=lambda number: number.name)
@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["nothing"], 2)])
@pytest.mark.quick(3, rest="ci")
def test_a_signal_while_the_interpreter_is_taken_down_changes_no_exit_code(number, arguments, code):
    """The process of work that is done is not ended by the signal's name."""
    done = subprocess.run(
        [sys.executable, "-c", LATE, number.name, *arguments], capture_output=True, check=False
    )
    assert done.returncode == code
    assert done.stdout or done.stderr


@pytest.mark.usefixtures("no_alarm")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", ["add_arguments", "run"])
def test_a_signal_ends_every_command_in_good_order(command, place, monkeypatch, capsys):
    """While its arguments are read and while it works: 75 if the same command continues it, else 128 + N, one line."""
    module = importlib.import_module(f"gatelab.cli.{command}")
    ended, real = [], getattr(module, place)

    def signalled(argument):
        try:
            os.kill(os.getpid(), number)
            return real(argument)  # not reached in `run`
        finally:
            ended.append(number)

    before = [signal.getsignal(number) for number in STOP]
    monkeypatch.setattr(module, place, signalled)
    for number in STOP:
        code = main([command, *ARGUMENTS.get(command, ())])
        assert code == (75 if command in RESUMABLE else 128 + number)
        said = capsys.readouterr().err
        assert said.startswith(f"gatelab {command}: stopped by {number.name}")
        assert said.count("\n") == 1
    assert ended == list(STOP)
    assert [signal.getsignal(number) for number in STOP] == before


def full():
    return open("/dev/full", "w")


def read_only():
    return open(os.open(os.devnull, os.O_RDONLY), "w")


def reader_gone():
    read, write = os.pipe()
    os.close(read)
    return open(write, "w")


def terminal_closed():
    terminal, stream = os.openpty()
    os.close(terminal)
    return open(stream, "w")


SAYS = {
    "check": ["check", "experiment=quickstart"],
    "version": ["--version"],
    "completion": ["completion", "bash"],
}
SAYS |= {"runs": ["runs", "paths.root=nowhere"], "study": ["study", "--json"]}
SAYS |= {"help": ["--help"], "a command's help": ["train", "--help"], "sweep's help": ["sweep", "--help"]}
NOBODY_READS = {reader_gone, terminal_closed}
needs_dev_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


@needs_dev_full
@pytest.mark.parametrize("stream", [full, read_only, reader_gone, terminal_closed])
@pytest.mark.parametrize("what", SAYS)
@pytest.mark.quick(11, rest="ci")
def test_output_that_is_lost_is_told_unless_nobody_reads_it(what, stream, monkeypatch, capsys):
    with monkeypatch.context() as patched, stream() as out:
        patched.setattr(sys, "stdout", out)
        try:
            code = main(SAYS[what])
        except SystemExit as leave:
            code = leave.code
    said = capsys.readouterr().err
    assert code == (0 if stream in NOBODY_READS else 1), said
    assert ("not all of the output was written" in said) == bool(code)


@needs_dev_full
@pytest.mark.parametrize(("more", "code"), [([], 0), (["--json"], 1), (["--dry-run"], 1)])
def test_lost_output_fails_a_sweep_that_has_done_nothing_else(more, code, monkeypatch, capsys):
    def says(_options):
        print("text")
        return 0

    monkeypatch.setattr("gatelab.cli.sweep.run", says)
    with monkeypatch.context() as patched, full() as out:
        patched.setattr(sys, "stdout", out)
        assert main(["sweep", "study=x", *more]) == code
    assert "not all of the output was written" in capsys.readouterr().err


@needs_dev_full
@pytest.mark.parametrize("stream", [full, read_only, reader_gone, terminal_closed])
@pytest.mark.parametrize("names", [["stdout"], ["stderr"], ["stdout", "stderr"]])
@pytest.mark.quick(4)
@pytest.mark.quick(1, rest="ci")
def test_a_run_trains_to_its_end_whatever_becomes_of_its_output(names, stream, tmp_path, monkeypatch):
    request = ["train", "data=adding", "trainer.max_steps=1", "model.hidden_size=2", "data.steps=4"]
    request += [
        "trainer.limit_val_batches=1",
        "data.train_items=32",
        "data.eval_items=32",
        "test=false",
    ]
    with monkeypatch.context() as patched, stream() as output:
        for name in names:
            patched.setattr(sys, name, output)
        assert main([*request, f"paths.root={tmp_path}"]) == 0
    assert len(list(tmp_path.rglob("result.json"))) == 1
