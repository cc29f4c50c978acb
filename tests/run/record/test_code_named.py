"""A result belongs to all of the user's code, however one file names another; a word that is only spoken of is none."""

import importlib
import sys

import pytest

from gatelab.run.record.code import changed, sources

CELL = "class Cell:\n    pass\n"
PACKAGE = {"own_p/__init__.py": "", "own_p/own_h.py": "A = 1\n"}
INSIDE = "own_p.own_m.Cell"
NAMED = {  # how one file names another: the file that is edited, all files, and the target
    "all of a package": (
        "own_p/own_h.py",
        {**PACKAGE, "own_p/__init__.py": "__all__ = ['own_h']\n", "own_m.py": "from own_p import *\n"},
    ),
    "a package that asks later": (
        "own_p/own_h.py",
        {
            **PACKAGE,
            "own_p/__init__.py": "import lazy_loader\nlazy_loader.attach(__name__, submodules=['own_h'])\n",
            "own_m.py": "import own_p\n",
        },
    ),
    "a table of names": (
        "own_p/own_h.py",
        {**PACKAGE, "own_p/__init__.py": "TABLE = {'Cell': 'own_p.own_h'}\n", "own_m.py": "import own_p\n"},
    ),
    "a name that is put together": (
        "own_p/own_h.py",
        {**PACKAGE, "own_m.py": "import importlib\nimportlib.import_module(f'own_p.{chr(104)}')\n"},
    ),
    "every module there is": (
        "own_p/own_h.py",
        {
            **PACKAGE,
            "own_p/__init__.py": "import importlib, pkgutil\nfor one in pkgutil.iter_modules(__path__):\n"
            "    importlib.import_module(f'{__name__}.{one.name}')\n",
            "own_m.py": "import own_p\n",
        },
    ),
    "relative": (
        "own_p/own_h.py",
        {
            **PACKAGE,
            "own_p/own_m.py": "from importlib import import_module as get\nget('.own_h', __package__)\n",
        },
        INSIDE,
    ),
    "around the package": (
        "own_h.py",
        {"own_p/__init__.py": "", "own_h.py": "", "own_p/own_m.py": "exec(open('../own_h.py').read())\n"},
        INSIDE,
    ),
    **{
        text: ("own_h.py", {"own_h.py": "A = 1\n", "own_m.py": f"{text}\n"})
        for text in (
            "import importlib; importlib.import_module(name='own_h')",
            "import importlib; NAME = 'own_h'; importlib.import_module(NAME)",
            "import importlib; [importlib.import_module(n) for n in ('json', 'own_h')]",
            "import runpy; runpy.run_module('own_h')",
            "import pkgutil; pkgutil.resolve_name('own_h:A')",
            "from pydoc import locate; locate('own_h.A')",
            "from hydra.utils import get_object; get_object('own_h.A')",
            "from hydra.utils import instantiate; instantiate({'_target_': 'own_h.A'})",
            "from importlib.util import spec_from_file_location as f; f('x', './own_h.py')",
        )
    },
    **{
        text: (file, {file: "// 1\n", "own_m.py": f"{text}\n"})
        for text, file in (
            ("import runpy; runpy.run_path('own_s/own_h.py')", "own_s/own_h.py"),
            ("from pathlib import Path; exec((Path() / 'own_s' / 'own_h.py').read_text())", "own_s/own_h.py"),
            ("import os; FILE = os.path.join('own_s', 'own_h.py')", "own_s/own_h.py"),
            ("def kernel(): load(name='k', sources=['own_k.cpp'])", "own_k.cpp"),
            ("def kernel(): load(name='k', sources=['own_s/own_k.cu'])", "own_s/own_k.cu"),
            ("import ctypes; ctypes.CDLL('./libown.so')", "libown.so"),
            ("import pyximport; pyximport.install(); import own_k", "own_k.pyx"),
        )
    },
    "a file that a kernel includes": (
        "own_s/own_k.h",
        {
            "own_s/own_k.cpp": '#include "own_i.h"\n',
            "own_s/own_i.h": '  # include "own_k.h"\n',
            "own_s/own_k.h": "//\n",
            "own_m.py": "SOURCE = 'own_s/own_k.cpp'\n",
        },
    ),
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        importlib.invalidate_caches()
        return tmp_path

    yield write
    sys.path_importer_cache.pop(str(tmp_path), None)


@pytest.mark.parametrize("how", NAMED)
def test_an_edit_is_told_however_a_file_is_named(own, how):
    edited, files, *target = NAMED[how]
    module = "own_p/own_m.py" if target else "own_m.py"
    folder = own({**files, module: f"{files[module]}{CELL}"})
    config = {"model": {"_target_": target[0] if target else "own_m.Cell"}}
    before = sources(config)
    assert changed(before, sources(config)) == []
    (folder / edited).write_text(f"{files[edited]}\n// 2\n")
    (found,) = changed(before, sources(config))
    assert found.removesuffix(" (a file)") == edited


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.py", "SPLITS = ('train', 'valid')\n"),  # a word is no module where nothing imports by name
        ("train.py", "FILE = 'train.csv'\n"),
        ("model.py", "def key(state):\n    return state['model.weight']\n"),
        (
            "own_p/own_h.py",
            "from hydra.utils import instantiate\ndef make(node):\n    return instantiate(node)\n",
        ),
        ("json.py", "import json\n"),
        ("own_results.json", "FILE = 'own_results.json'\n"),  # it may be what the code writes
        ("own_h.py", "'''As own_h does it, see own_h.py or own_h.A.'''\n"),
    ],
)
def test_what_is_only_spoken_of_is_no_code_of_the_run(own, name, text):
    folder = own({name: "A = 1\n", "own_p/__init__.py": "", "own_m.py": f"{text}{CELL}"})
    config = {"model": {"_target_": "own_m.Cell"}}
    before = sources(config)
    (folder / name).write_text("A = 2\n")
    assert changed(before, sources(config)) == []
