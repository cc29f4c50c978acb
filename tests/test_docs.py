"""The manual is true: each page's Python and commands run, and what it says was printed is printed."""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.distributed.run import get_args_parser

from gatelab.cli.main import main
from gatelab.run.config import check, compose
from gatelab.run.config.dry_build import refusal
from gatelab.run.train import train
from scripts.docs.outputs import notebook

from .docs_pages import DOCS, ROOT, Block, blocks, pages, same_output
from .studies_by_hand import Maker

PAGES = pages()
TUTORIAL = "gru-from-scratch.md"
NEEDS = {
    "a GPU": 6,
    "four GPUs": 1,
    "Slurm": 1,
    "Ray": 1,
    "two nodes with four GPUs": 1,
    "some minutes": 7,
}
"""Of every page together: how many commands need what this machine has not. They are composed and checked, not run."""
FEW = ["trainer.max_epochs=1", "trainer.max_steps=2", "model.hidden_size=8", "trainer.limit_val_batches=1"]
QUIET = ["callbacks=none", "test=false"]
RAY = importlib.util.find_spec("ray") is not None


def commands(block: Block) -> list[list[str]]:
    """The commands of a block, one a line."""
    return [words for line in block.text.splitlines() if (words := shlex.split(line, comments=True))]


@contextlib.contextmanager
def one_thread():
    """Thousands of small products are faster on one thread, many times so beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Reader:
    """A reader who does what a page says, in one folder, on small settings."""

    def __init__(self, folder: Path, runs: dict[str, str], request: pytest.FixtureRequest) -> None:
        self.folder, self.runs, self.request = folder, dict(runs), request
        self.space: dict[str, object] = {}

    def write(self, block: Block) -> None:
        """Write the file that a block is."""
        file = self.folder / block.title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
        importlib.invalidate_caches()

    def python(self, block: Block, page: str) -> str:
        """Run Python; return what it printed."""
        with one_thread(), contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), self.space)
        return printed.getvalue()

    def run(self, words: list[str], needs: str) -> None:
        """Run one command, or check it where this machine cannot run it."""
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), words
            return
        if words[0] == "torchrun":
            self.torchrun(words)
            return
        words = words[2:] if words[:2] == ["python", "-m"] else words
        assert words[0] == "gatelab", words
        name, arguments = words[1], words[2:]
        if any(word in " ".join(arguments) for word in ("ptb", "etth1", "tinyshakespeare", "fsdd")):
            mirror = str(self.request.getfixturevalue("mirror"))
            self.request.getfixturevalue("monkeypatch").setenv("GATELAB_DATA_MIRROR", mirror)
        if name == "train" and needs:
            self.check(arguments)
            return
        if name == "sweep" and (needs or "--dry-run" not in arguments):
            arguments.append("--dry-run")  # every job is composed and checked
            if needs and (not any(a.startswith("launcher=") for a in arguments) or not RAY):
                arguments = [a for a in arguments if not a.startswith("launcher")]
                arguments.append("launcher=submitit_slurm")  # else its GPUs, or Ray, are looked for here
        self.call(name, arguments)

    def call(self, name: str, arguments: list[str]) -> None:
        """Run a command of Gatelab in this process."""
        run = self.runs.get(name, self.runs["any"])
        arguments = [a.replace("RUN_DIR", run) for a in arguments]
        before = {file.parent for file in self.folder.rglob("run.json")}
        if name == "train":
            given = {a.split("=")[0] for a in arguments}
            arguments += [o for o in (*FEW, *QUIET) if o.split("=")[0] not in given or "epochs" in o]
        if arguments[:1] == ["runs"]:
            arguments[0] = str(Path(run).parents[1])
        elif name in ("study", "report") and not (self.folder / "studies" / arguments[0]).is_dir():
            Maker(self.folder).grid(arguments[0])
        assert main([name, *arguments]) == 0, (name, arguments)
        if name == "train" and (new := {f.parent for f in self.folder.rglob("run.json")} - before):
            self.runs = dict.fromkeys(self.runs, str(new.pop()))

    def check(self, arguments: list[str]) -> None:
        """Compose and check the configuration of a run on another machine."""
        assert refusal(check(compose(arguments)), here=False) is None, arguments

    def torchrun(self, words: list[str]) -> None:
        """Check what torchrun is given, and what it gives to Gatelab."""
        known = get_args_parser().parse_args([a.replace("RANK", "0") for a in words[1:]])
        assert (known.module, known.training_script, known.training_script_args[0]) == (
            True,
            "gatelab",
            "train",
        )
        self.check(known.training_script_args[1:])


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A text, a table and two trained runs, for the pages that take them as given."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "my.txt").write_text("a line of text to learn from, again and again\n" * 200)
    hours = pd.date_range("2024-01-01", periods=1500, freq="h")
    load = [100 + 10 * (hour % 24) for hour in range(1500)]
    frame = pd.DataFrame({"date": hours, "load": load, "temperature": load[::-1]})
    frame.to_csv(folder / "my.csv", index=False)
    small = [*FEW, *QUIET, f"paths.root={folder}"]
    text = train(["data=text", f"data.path={folder}/my.txt", *small])["run_dir"]
    table = [f"data.path={folder}/my.csv", "data.time=date", "data.target=[load]", "data.lookback=24"]
    series = train(["data=table", *table, "data.horizon=24", *small])["run_dir"]
    return folder, {"any": series, "generate": text, "perplexity": text, "predict": series, "explain": text}


@pytest.fixture
def reader(things, tmp_path, monkeypatch, request):
    """A reader with the given files in a new folder, where modules are found."""
    given, runs = things
    for name in ("my.txt", "my.csv"):
        shutil.copy(given / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = set(sys.modules)
    yield Reader(tmp_path, runs, request)
    for name in set(sys.modules) - loaded:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


RUN = [name for name, text in PAGES.items() if re.search(r"```(bash|python|yaml)", text)]


@pytest.mark.slow  # `make test-docs`
@pytest.mark.parametrize("name", RUN)
def test_what_a_page_shows_runs(name, reader, monkeypatch):
    printed = None
    for block in blocks(PAGES[name]):
        if block.title == "in tests/plugin":
            monkeypatch.syspath_prepend(str(ROOT / "tests/plugin"))
            shutil.copytree(ROOT / "tests/plugin/conf", reader.folder / "conf")
        if block.is_file:
            plugin = ROOT / "tests/plugin" / block.title
            if plugin.exists():  # what is said to be a file of the example is one, but for its comment
                assert block.text in plugin.read_text()
            reader.write(block)
        elif block.language == "python":
            printed = reader.python(block, name)
            continue
        elif block.language == "bash":
            for words in commands(block):
                reader.run(words, block.needs)
        elif block.language == "text" and printed:
            assert same_output(block.text, printed), f"docs/{name}:{block.line}: it prints\n{printed}"
        printed = None


def test_a_shown_output_that_is_wrong_is_found():
    assert same_output("H 4: 408 parameters, perplexity 7.57", "H 4: 408 parameters, perplexity 7.60\n")
    assert not same_output("H 4: 408 parameters, perplexity 7.57", "H 4: 408 parameters, perplexity 9.01")
    assert not same_output("equal: True", "equal: False")
    assert not same_output("", "something")


def test_every_block_says_what_it_is_and_what_it_needs_is_counted():
    found = dict.fromkeys(NEEDS, 0)
    for name, text in PAGES.items():
        for block in blocks(text):
            where = f"docs/{name}:{block.line}"
            assert block.language in ("bash", "python", "yaml", "text"), where
            assert block.title == "" or block.is_file or block.needs or block.title == "in tests/plugin", (
                where
            )
            if block.needs:
                found[block.needs] += len(commands(block))
    assert found == NEEDS


def test_the_notebook_is_the_page():
    kept = (DOCS / "notebooks/gru_from_scratch.ipynb").read_text()
    assert kept == notebook(PAGES[TUTORIAL]), "python -m scripts.docs.outputs writes it anew"
    cells = json.loads(kept)["cells"]
    code = "".join(line for cell in cells if cell["cell_type"] == "code" for line in cell["source"])
    assert code.count("class GRUCell") == 1


@pytest.mark.parametrize("name", PAGES)
def test_every_link_into_the_project_leads_somewhere(name):
    prose = re.sub(r"^```.*?^```", "", PAGES[name], flags=re.S | re.M)
    links = re.findall(r"\]\((?!http|#)([^)#]+)", prose)
    assert [link for link in links if not (DOCS / name).parent.joinpath(link).exists()] == []


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    assert [name for name in PAGES if f" {name}\n" not in menu] == []


def test_the_pictures_are_what_their_script_draws():
    from scripts.docs import pictures

    for name in pictures.PICTURES:
        assert (pictures.FOLDER / f"{name}.svg").read_text() == pictures.svg(name)


def test_the_check_of_the_site_finds_what_is_wrong(tmp_path):
    from scripts.docs.site import problems

    (tmp_path / "a.html").write_text(
        '<h1 id="x">x</h1><a href="b.html#y">b</a><img src="http://elsewhere/p.png">'
    )
    (tmp_path / "b.html").write_text('<h1 id="z">z</h1><a href="a.html#x">a</a><a href="c.html">c</a>')
    assert problems(tmp_path) == [
        "a.html links to b.html#y: no such heading",
        "a.html loads http://elsewhere/p.png",
        "b.html links to c.html, which is not there",
    ]
