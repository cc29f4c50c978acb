"""Every command and every Python block of the README runs, on small settings and made-up files.

The pages of docs/ are read by `test_docs.py`.
"""

import re
import shlex
import wave
from pathlib import Path

import pandas as pd
import pytest

from gatelab.cli.main import main
from gatelab.run.train import train

from .studies_by_hand import Maker

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.S)
LINES = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line.strip()]
COMMANDS = [shlex.split(line, comments=True) for line in dict.fromkeys(LINES)]
FEW = ["trainer.max_epochs=1", "trainer.max_steps=2", "model.hidden_size=8", "trainer.limit_val_batches=1"]
QUIET = ["callbacks=none", "test=false"]


def _other_data(folder):
    """Two shops of a year each, messages of two departments, sentence pairs, and sounds of two classes."""
    days = [*pd.date_range("2024-01-01", periods=365)] * 2
    shops = ["north"] * 365 + ["south"] * 365
    sales = {"shop": shops, "day": days, "sales": [10 + number % 7 for number in range(730)]}
    pd.DataFrame(sales).to_csv(folder / "sales.csv", index=False)
    messages = [f"the invoice {n} is wrong,billing\nthe parcel {n} is late,delivery\n" for n in range(40)]
    (folder / "messages.csv").write_text("message,department\n" + "".join(messages))
    for name, line in (("de", "Satz {} ist hier."), ("en", "Sentence {} is here.")):
        (folder / f"{name}.txt").write_text("".join(line.format(n) + "\n" for n in range(60)))
    for name in ("dog", "cat"):
        (folder / "sounds" / name).mkdir(parents=True)
        for number in range(10):
            with wave.open(str(folder / "sounds" / name / f"{number}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes(bytes(range(100 + number)) * 40)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the README's commands name, and two trained runs."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "my.txt").write_text("a line of text to learn from, again and again\n" * 200)
    hours = pd.date_range("2024-01-01", periods=1500, freq="h")
    load = [100 + 10 * (hour % 24) for hour in range(1500)]
    pd.DataFrame({"date": hours, "load": load, "wind": load[::-1]}).to_csv(folder / "my.csv", index=False)
    _other_data(folder)
    text = train(["experiment=quickstart", *FEW, *QUIET, f"paths.root={folder}"])
    request = [
        "data=table",
        f"data.path={folder}/my.csv",
        "data.time=date",
        "data.target=[load]",
        "data.lookback=24",
    ]
    series = train([*request, "data.horizon=24", *FEW, *QUIET, f"paths.root={folder}"])
    runs = dict.fromkeys(("eval", "predict", "reproduce", "export", "explain", "diff"), series["run_dir"])
    return folder, {**runs, **dict.fromkeys(("generate", "perplexity"), text["run_dir"])}


@pytest.mark.slow  # `make test-docs`
@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "gatelab"], ids=" ".join)
def test_a_command_of_the_readme_runs(command, place, monkeypatch, request):
    folder, runs = place
    name, arguments = command[1], [runs.get(command[1], a) if a == "RUN_DIR" else a for a in command[2:]]
    if any(word in " ".join(arguments) for word in ("ptb", "etth1")):
        monkeypatch.setenv("GATELAB_DATA_MIRROR", str(request.getfixturevalue("mirror")))
    if name == "train":
        given = {a.split("=")[0] for a in arguments}
        arguments += [o for o in (*FEW, *QUIET) if o.split("=")[0] not in given or "epochs" not in o]
    if name == "sweep":
        arguments.append("--dry-run")  # every job is composed and checked
    monkeypatch.chdir(folder)
    if name in ("study", "report") and not (folder / "studies" / arguments[0]).is_dir():
        Maker(folder).grid(arguments[0])
    assert main([name, *arguments]) == 0


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] != "gatelab"], ids=" ".join)
def test_the_other_commands_are_targets_of_the_makefile(command):
    assert command[0] == "make"
    assert re.search(rf"^{command[1]}:", (ROOT / "Makefile").read_text(), re.M)


def test_the_python_of_the_readme_runs(capsys):
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "README.md", "exec"), {})
    assert "torch" in capsys.readouterr().out


def test_every_link_into_the_project_leads_somewhere():
    assert all((ROOT / link).exists() for link in re.findall(r"\]\((?!http)([^)#]+)", README))


def test_the_readme_is_at_most_180_lines_and_links_to_the_manual():
    assert len(README.splitlines()) <= 180
    assert "(docs/index.md)" in README


def test_every_choice_that_the_readme_lists_exists_and_none_is_missing():
    for group in ("data", "model", "task", "trainer", "debug"):
        (listed,) = re.findall(rf"^\| `{group}=` \| (.*?) \|$", README, re.M)
        names = {name.strip() for name in re.sub(r"\(.*?\)", "", listed).split(",")}
        assert names == {p.stem for p in (ROOT / "conf" / group).glob("[!_]*.yaml")}
