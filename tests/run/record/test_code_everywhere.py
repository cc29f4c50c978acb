"""Every source file of the user's that a run is made of is recorded, and looking for it imports nothing."""

import contextlib
import importlib
import sys
import zipfile

import pytest

from gatelab.run.record import code

CELL = "class Cell:\n    SCALE = 1\n"
LAYOUTS = {
    "import": ({"zz_own.py": f"import zz_more\n{CELL}", "zz_more.py": ""}, "zz_own.Cell"),
    "from": ({"zz_own.py": f"from zz_more import *\n{CELL}", "zz_more.py": ""}, "zz_own.Cell"),
    "in a function": ({"zz_own.py": "def cell():\n    import zz_more\n", "zz_more.py": ""}, "zz_own.cell"),
    "nested class": ({"zz_own.py": "class Outer:\n    class Cell: ...\n"}, "zz_own.Outer.Cell"),
    "import_module": (
        {"zz_own.py": f"import importlib\nimportlib.import_module('zz_more')\n{CELL}", "zz_more.py": ""},
        "zz_own.Cell",
    ),
    "__import__": ({"zz_own.py": f"__import__('zz_more')\n{CELL}", "zz_more.py": ""}, "zz_own.Cell"),
    "relative": (
        {"zz_pack/__init__.py": "", "zz_pack/own.py": f"from .more import x\n{CELL}", "zz_pack/more.py": "x = 1"},
        "zz_pack.own.Cell",
    ),
    "relative import_module": (
        {
            "zz_pack/__init__.py": "",
            "zz_pack/own.py": f"from importlib import import_module\nimport_module('.more', __package__)\n{CELL}",
            "zz_pack/more.py": "",
        },
        "zz_pack.own.Cell",
    ),
    "handed on": (
        {"zz_pack/__init__.py": "from zz_pack.own import Cell", "zz_pack/own.py": CELL},
        "zz_pack.Cell",
    ),
    "hydra.utils.get_class": ({"zz_own.py": CELL}, "hydra.utils.get_class"),
    "namespace": ({"zz_space/own.py": f"import zz_space.more\n{CELL}", "zz_space/more.py": ""}, "zz_space.own.Cell"),
}  # fmt: skip
PLACES = [
    lambda target: {"model": {"_target_": target}},
    lambda target: {"callbacks": {"own": {"_target_": target}}},
    lambda target: {"data": {"module": {"more": [{"_target_": target}]}}},
]


@contextlib.contextmanager
def importable(folder):
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.startswith("zz_")]:
            del sys.modules[name]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("imported", [False, True])
def test_an_edit_of_any_file_is_seen_and_looking_imports_nothing(tmp_path, layout, imported):
    files, target = LAYOUTS[layout]
    get = {"_target_": target, "path": "zz_own.Cell"}
    place = (
        (lambda _: {"optim": get})
        if target.startswith("hydra")
        else PLACES[[*LAYOUTS].index(layout) % len(PLACES)]
    )
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text if imported else f"raise SystemExit\n{text}")
    config = place(target)
    with importable(tmp_path):
        if imported:
            importlib.import_module(next(iter(files))[:-3].replace("/", ".").removesuffix(".__init__"))
        before = code.sources(config)
        assert set(files) <= set(before)
        for name in files:
            with (tmp_path / name).open("a") as file:
                file.write("# edited\n")
            module = name[:-3].replace("/", ".").removesuffix(".__init__")
            if module in sys.modules:  # what ran is what was read
                assert code.edited(config)
                assert code.sources(config)[name] == before[name]
            else:
                assert code.changed(before, code.sources(config)) == [name]
            before = code.sources(config)


@pytest.mark.parametrize("how", ["runpy.run_path(f)", "exec(open(f).read())", "SourceFileLoader('x', f)"])
@pytest.mark.parametrize("own", ["zz_own.py", "zz_pack/own.py", "zz_pack/__init__.py"])
def test_a_file_that_own_code_runs_by_its_name_is_recorded(tmp_path, how, own):
    target, more = tmp_path / own, (tmp_path / own).with_name("more-code.py")
    target.parent.mkdir(exist_ok=True)
    target.write_text(f"f = Path(__file__).with_name('more-code.py')\n{how}\n{CELL}")
    more.write_text("x = 1")
    module = own[:-3].replace("/", ".").removesuffix(".__init__")
    with importable(tmp_path):
        before = code.sources({"_target_": f"{module}.Cell"})
        more.write_text("x = 2")
        name = f"{more.relative_to(tmp_path)} (a file)"
        assert code.changed(before, code.sources({"_target_": f"{module}.Cell"})) == [name]


def test_a_module_that_was_loaded_again_is_taken_as_it_is_now(tmp_path):
    file = tmp_path / "zz_own.py"
    file.write_text(CELL)
    config = {"_target_": "zz_own.Cell"}
    with importable(tmp_path):
        module = importlib.import_module("zz_own")
        before = code.sources(config)
        file.write_text(f"{CELL}# edited, and longer\n")
        assert code.edited(config) == ["zz_own.py"]
        importlib.reload(module)
        assert code.edited(config) == []
        assert code.changed(before, code.sources(config)) == ["zz_own.py"]


def test_code_in_an_archive_and_of_an_installed_package_is_recorded(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        archive.writestr("zz_zipped.py", CELL)
    with importable(tmp_path / "own.zip"):
        assert "zz_zipped.py" in code.sources({"_target_": "zz_zipped.Cell"})
    package = tmp_path / "site-packages" / "zz_installed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CELL)
    found = []
    for text in ("", "x = 1"):
        (package / "more.py").write_text(text)
        code._installed.cache_clear()
        code._of_installed.cache_clear()
        with importable(package.parent):
            found.append(code.sources({"_target_": "zz_installed.Cell"})["zz_installed (installed)"])
    code._installed.cache_clear()
    assert found[0] != found[1]


NOTEBOOK = """
import functools
SCALE = 5
SIZES = [1, 2]
unused = 1
def half(x, by=2):
    return x / by * SCALE
def wrapped(f):
    @functools.wraps(f)
    def outer(*args): return f(*args)
    return outer
class Base:
    N = 1
    sizes = {"a": 10}
class Cell(Base):
    def f(self): return half(1)
    @staticmethod
    def s(): return 20
    @classmethod
    def c(cls, *, k=30): return [SIZES[i] for i in range(2)]
    @property
    def p(self): return 40
    @functools.cached_property
    def q(self): return 50
    @wrapped
    def w(self): return 60
    g = functools.partial(half, by=70)
"""
EDITS = [
    *(
        ("x / by", "x * by"),
        ("by=2", "by=3"),
        ("SCALE = 5", "SCALE = 6"),
        ("[1, 2]", "[1, 3]"),
        ("N = 1", "N = 2"),
    ),
    *((f"{n}0", f"{n}1") for n in range(1, 8)),
    *(("half(1)", "half(7)"), ("f(*args)", "f(*args[::-1])")),
]


def test_a_class_of_a_notebook_is_told_from_its_edit(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.delattr(main, "__file__", raising=False)
    cells = [NOTEBOOK]
    cells += [NOTEBOOK.replace(*edit) for edit in EDITS]
    assert NOTEBOOK not in cells[1:]
    found = []
    for number, text in enumerate([cells[0], *cells]):
        exec(compile("\n" * number + text, f"cell {number}", "exec"), vars(main))
        found.append(code.sources({"_target_": "__main__.Cell"})["__main__.Cell"])
    vars(main)["unused"] = 2  # a variable that the class does not read
    assert code.sources({"_target_": "__main__.Cell"})["__main__.Cell"] == found[-1]
    for name in ("functools", "SCALE", "SIZES", "unused", "half", "wrapped", "Base", "Cell"):
        monkeypatch.delattr(main, name)
    assert found[0] == found[1]
    assert len(set(found)) == len(cells)


def test_endless_or_shared_configurations_are_walked_once():
    endless = {"_target_": "a.B"}
    endless["self"] = [endless]
    for _ in range(60):
        endless = {"x": [endless, endless]}
    assert list(code.targets(endless)) == ["a.B"]
