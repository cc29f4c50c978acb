"""An option or a key of a Hydra program is never ignored: it is refused, with what does the same here."""

import itertools

import pytest

from gatelab.cli.main import main
from gatelab.run import RequestError
from gatelab.run.config import compose
from gatelab.run.hydra_habits import KEYS, OPTIONS, refuse_key, refuse_option

OURS = ("data.hydra=1", "name=hydra", "+callbacks.hydra.x=1", "hydraulics=3", "model.hidden_size=3")
COMMANDS = ("train", "sweep", "check", "baseline")


@pytest.mark.parametrize("start", KEYS)
def test_a_key_of_hydra_is_refused_however_it_is_written(start):
    keys = {start, f"{start}.x", start.replace(".", "/", 1), f"+{start}", f"++{start}.y", f"~{start}"}
    for key in keys:
        with pytest.raises(RequestError, match=r"^[+~]*hydra[./]"):
            compose([f"{key}=1"])
    assert refuse_key("hydra=default")


@pytest.mark.parametrize("override", OURS)
def test_other_keys_are_left_alone(override):
    assert refuse_key(override) is None
    assert refuse_option("train", [override, "--force", "--json", "--config-dir", "x"]) is None


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_of_hydra_is_refused_wherever_it_stands_and_no_override_is_lost(command, capsys):
    for option in itertools.chain(*OPTIONS):
        takes = next(row[2] for names, row in OPTIONS.items() if option in names)
        for given in ([option, "job"], [f"{option}=job"]) if takes == 1 else ([option],):
            assert main([command, "a=1", *given, "b=2"]) == 2
            said = capsys.readouterr().err
            assert len(said.strip().splitlines()) == 1
            assert f"{option} is an option of Hydra's own programs: " in said
            if "a=1" in said:
                assert "b=2" in said


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("train -m model.hidden_size=3,4", "`gatelab sweep model.hidden_size=3,4`"),
        ("train --cfg job --resolve data=adding", "`gatelab check data=adding`"),
        ("train --info data=adding", "`gatelab check data=adding`"),
        ("train --config-name mine.yaml", "`gatelab train experiment=mine`"),
        ("train --config-path conf -cn mine", "`gatelab train --config-dir conf -cn mine`"),
        ("train study.seeds=3", "is for `gatelab sweep`"),
        ("sweep study.seed=0,1", r"study.seeds=[0,1,2]"),
        ("sweep study.seeds=range(3)", r"study.seeds=[0,1,2]"),
    ],
)
def test_the_fix_can_be_typed(typed, instead, capsys):
    assert main(typed.split()) == 2
    assert instead in capsys.readouterr().err
