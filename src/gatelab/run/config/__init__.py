"""The configuration of a run: composed with Hydra from `conf/` and overrides, and checked before anything is built.

Hydra's own messages name a key but not its nearest spelling; here every mistake becomes one `RequestError` that does.
The schema of a node is the signature of its `_target_`, which is imported and inspected: nothing is typed twice. A key
that the signature lacks, a value of another type, a target that does not exist: each is named with its file and line.
Values are checked by the constructors.
"""

from __future__ import annotations

import contextlib
import inspect
import shlex
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gatelab.data.messages import did_you_mean
from gatelab.run import CONF_DIR, RequestError
from gatelab.run.config.explain import (
    CANNOT_COMPOSE,
    MARKS,
    choices_of,
    choose_groups,
    deleted_null,
    explain_composition,
    explain_grammar,
    explain_key,
    explain_missing,
    key_of,
    keys_of,
    where,
)
from gatelab.run.config.monitors import directions, wrong_way
from gatelab.run.config.signatures import Signature, locate, signature_of, type_problems
from gatelab.run.hydra_habits import refuse_key
from gatelab.run.record.sources import with_sources

SUPPLIED = {"directory", "run_dir", "run_id", "save_dir"}
"""Arguments that `run/build.py` gives, never a configuration."""
GROUPS = ("data", "task", "model", "optim", "schedule", "trainer", "callbacks", "logger", "paths")
MOST_THREADS = 1024
"""Of the tensor library: with many more the process ends without a message."""


@dataclass(frozen=True)
class Composed:
    """A composed configuration and where it came from.

    Attributes:
        config: resolved lazily by OmegaConf, without the `hydra` node.
        choices: group -> chosen file, e.g. `{"data": "ptb_word", "model": "gru"}`.
        overrides: as they were given.
        directories: the folders that were searched for configuration files.
    """

    config: DictConfig
    choices: dict[str, Any]
    overrides: tuple[str, ...]
    directories: tuple[Path, ...]

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain data with every interpolation resolved."""
        try:
            resolved = OmegaConf.to_container(self.config, resolve=True, throw_on_missing=True)
        except MissingMandatoryValue as error:
            raise RequestError(f"{error.full_key}: missing; give {error.full_key}=...") from None
        except OmegaConfBaseException as error:
            raise RequestError(f"{error.full_key}: {str(error.msg or error).splitlines()[0]}") from None
        assert isinstance(resolved, dict)
        return with_sources({str(key): value for key, value in resolved.items()})


def compose(
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[Path] = (),
    conf_dir: Path = CONF_DIR,
) -> Composed:
    """Compose `conf/train.yaml` with `overrides`.

    Args:
        overrides: Hydra's override grammar, e.g. `["data=ptb_word", "model.hidden_size=200"]`.
        config_dirs: further folders laid out like `conf/`, searched after it.
        conf_dir: the folder `conf/` itself, or a copy of it.

    Raises:
        RequestError: a wrong key, group choice, value or file, with the nearest spelling.
    """
    for folder in config_dirs:
        if not folder.is_dir():
            raise RequestError(f"--config-dir {folder}: no such folder")
    if refused := next(filter(None, map(refuse_key, overrides)), None):
        raise RequestError(refused)
    search = ",".join(f"file://{folder.resolve()}" for folder in config_dirs)
    folders = (conf_dir, *config_dirs)
    hydra_overrides = [*choose_groups(overrides, folders), f"hydra.searchpath=[{search}]"]

    def without(key: str) -> DictConfig:
        others = [o for o in hydra_overrides if key_of(o) != key]
        try:
            return _compose(others, conf_dir)
        except HydraException:  # another one is wrong too
            return _compose([o for o in others if "." not in key_of(o) and o[0] not in "+~"], conf_dir)

    try:
        config = _compose(hydra_overrides, conf_dir)
    except MissingConfigException as error:
        raise RequestError(explain_missing(error, folders)) from None
    except OverrideParseException as error:
        raise RequestError(explain_grammar(error)) from None
    except ConfigCompositionException as error:
        if key := deleted_null(str(error), hydra_overrides):
            with contextlib.suppress(RequestError):
                return compose([f"{key}=0", *overrides], config_dirs=config_dirs, conf_dir=conf_dir)
        raise RequestError(explain_key(str(error), overrides, without, _takes)) from None
    except CANNOT_COMPOSE as error:
        raise RequestError(explain_composition(error, hydra_overrides, folders)) from None
    choices = {k: v for k, v in config.hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
    experiment = choices.get("experiment")
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    if not OmegaConf.is_interpolation(config, "name") and config.get("name", "") is None:
        several = next((o[12:-1] for o in reversed(hydra_overrides) if o.startswith("experiment=[")), "")
        default = f"{choices.get('data')}-{choices.get('model')}"
        named = experiment or "-".join(name.strip() for name in several.split(","))
        config.name = named.replace("/", "-") or default  # experiment=ablation/no_dropout lies in a subfolder
    if "logger" not in config:  # `~logger`, `logger=[]`
        config.logger = {}
    adapt_to_targets(config, [key for o in overrides for key in given_keys(o)])
    return Composed(config, choices, tuple(overrides), (conf_dir, *config_dirs))


def _compose(overrides: Sequence[str], conf_dir: Path) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir.resolve()), version_base="1.3"):
        return hydra_compose("train", list(overrides), return_hydra_config=True)


def _takes(target: Any, name: str) -> bool:
    """Whether a target is known to take an argument of this name."""
    try:
        return name in signature_of(str(target)).names
    except (ImportError, AttributeError, TypeError, ValueError):
        return False


def given_keys(override: str) -> Iterator[str]:
    """The dotted keys that an override gives: its own, and those inside a value like `{_target_: x, lr: 0.1}`."""
    key, value = key_of(override), override.partition("=")[2]
    yield key
    if value.startswith("{"):
        (parsed,) = OverridesParser.create().parse_overrides([override])
        given: Any = parsed.value()
        yield from (f"{key}.{inner}" for inner in keys_of(OmegaConf.create(given)))


def adapt_to_targets(config: DictConfig, given: Collection[str]) -> None:
    """Where `GROUP._target_` was given, take away those of the group's own defaults that do not fit the new target.

    `optim._target_=torch.optim.RMSprop` keeps `lr` and loses `beta1`; what was given beside it stays, and is refused if
    it does not fit.
    """
    for key in given:
        group = key.removesuffix("._target_")
        node: Any = OmegaConf.select(config, group) if group != key else None
        if not OmegaConf.is_dict(node):
            continue
        try:
            signature = signature_of(str(node._target_))
            accepted = {*MARKS, *signature.names, *_inherited_names(str(node._target_))}
        except (ImportError, AttributeError, TypeError, ValueError):
            continue  # `check` says so
        for argument in list(node):
            if any(g == f"{group}.{argument}" or g.startswith(f"{group}.{argument}.") for g in given):
                continue
            hint = signature.hints.get(argument, Any) if argument not in MARKS else Any
            if argument not in accepted or any(type_problems(node.get(argument), hint, argument)):
                with open_dict(node):
                    del node[argument]


def _inherited_names(target: str) -> Iterator[str]:
    """Arguments of the constructors that a class with `**options` may hand them on to, e.g. those of `torch.nn.GRU`."""
    kind = locate(target)
    if signature_of(target).open_ended:
        for base in kind.__mro__ if inspect.isclass(kind) else ():
            yield from inspect.signature(vars(base).get("__init__", object)).parameters


Init = TypedDict("Init", {"from": str | None, "parts": list[str] | None, "grow": bool})
"""Where the weights start from: `from` a run or a file, `parts` of its network, `grow` a smaller one; see
`run/source/initial.py`."""


class Transfer(TypedDict):
    """How they are trained on; see `gatelab.tasks.fine_tuning`."""

    freeze: list[str]
    unfreeze: int | None
    decay: float | None


@dataclass
class Root:
    """What `train.yaml` itself holds, beside the groups.

    Attributes:
        seed: of everything random in the run; two runs with the same configuration and seed are the same run.
        name: folder of the run below `<paths.root>/runs/`; the experiment's name where none is given.
        threads: of the tensor library (null: one a core, in a study the slot's share, which a number cannot exceed).
        flush_denormal: denormal numbers become zero (much faster on some processors).
        matmul_precision: of float32 products in training steps, as `torch.set_float32_matmul_precision` takes it
            (null: highest).
        compile: the network while it trains, see `gatelab.tasks.callbacks.Compile`.
        test: score the best checkpoint on the test split when training is over.
        init, transfer: start from weights that were trained before, and how to go on from them.
        tags, note: to find the run by; given again, tags are added and the note is replaced.
        source_sha256: what `init.from` and other sources hold; it is worked out (`run/record/sources.py`).
    """

    seed: int
    name: str
    threads: int | None
    flush_denormal: bool
    matmul_precision: Literal["highest", "high", "medium"] | None
    compile: Literal["default", "reduce-overhead", "cudagraphs", "aot_eager", "eager"] | None
    test: bool
    init: Init
    transfer: Transfer
    tags: list[str]
    note: str | None
    source_sha256: dict[str, str]


def check(composed: Composed) -> dict[str, Any]:
    """Check everything that can be checked without data; return the resolved configuration.

    Raises:
        RequestError: naming every mistake, one a line.
    """
    config = composed.resolved()
    found = problems(config)
    if found:
        lines = (f"{key}: {text}{where(key, composed)}{_decoded(key, composed)}" for key, text in found)
        raise RequestError("\n".join(lines))
    return config


def _decoded(key: str, composed: Composed) -> str:
    """The line to type for a number that comes from an environment variable, which is text."""
    given = next((o for o in composed.overrides if key_of(o) == key and "=${oc.env:" in o), None)
    if given is None:
        return ""
    _, _, value = given.partition("=")
    line = f'{key}="${{oc.decode:{value}}}"'
    return f" An environment variable is text; as a number it is {shlex.quote(line)}."


def problems(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The mistakes in a resolved configuration, as (dotted key, text)."""
    nodes = (p for group in GROUPS for p in check_node(config.get(group), group))
    return [*_check_root(config), *nodes, *_check_supplied(config), *_check_monitor(config.get("task"))]


def metrics_of(task_target: Any) -> list[str]:
    """The metrics that a task ranks by on the validation split, e.g. `val/loss`; none if it does not say so."""
    try:
        figures = getattr(locate(str(task_target)), "figures", ())
    except (ImportError, AttributeError):
        return []
    return [f"val/{figure.name}" for figure in figures if figure.better]


def _check_supplied(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Layers take a device, as those of `torch.nn` do; in a run the Trainer moves them, and the data give the sizes."""
    task = config.get("task")
    for path, node in (("model", config.get("model")), ("task.net", dict(task or {}).get("net"))):
        if isinstance(node, dict) and node.get("device") is not None:
            yield f"{path}.device", f"trainer.accelerator decides that in a run; leave {path}.device out."
        for size in ("input_size", "vocab_size", "channels", "horizon", "core"):
            if isinstance(node, dict) and size in node:
                yield f"{path}.{size}", f"the data decide that; ~{path}.{size} leaves it out."


def _check_monitor(task: Any) -> Iterator[tuple[str, str]]:
    """A task says which metrics it will log, so that a misspelt one need not wait for the first validation."""
    if not isinstance(task, dict) or not isinstance(task.get("monitor"), str):
        return
    known, monitor = metrics_of(task.get("_target_")), task["monitor"]
    if known and monitor not in known:
        hint = did_you_mean(monitor, known)
        yield "task.monitor", f"the task logs no '{monitor}'.{hint} It logs {', '.join(known)}."
    elif known and (
        why := wrong_way("task.mode", monitor, task.get("mode"), directions(locate(task["_target_"])))
    ):
        yield "task.mode", why


def _check_root(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    known = typing.get_type_hints(Root)
    for key, value in config.items():
        if typing.is_typeddict(known.get(key)) and isinstance(value, dict):
            hints = typing.get_type_hints(known[key])
            for name, inner in value.items():
                if name in hints:
                    yield from type_problems(inner, hints[name], f"{key}.{name}")
                else:
                    yield f"{key}.{name}", f"no such key.{did_you_mean(name, hints)}"
        elif key in known:
            yield from type_problems(value, known[key], key)
        elif key not in GROUPS:
            yield key, f"no such key.{did_you_mean(key, [*known, *GROUPS])}"
    for group in GROUPS:
        node, optional = config.get(group), group in ("schedule", "callbacks", "logger")
        if group not in config or not (isinstance(node, dict) or (optional and node is None)):
            chosen = ", ".join(choices_of(group, [CONF_DIR]))
            yield group, f"a run needs one, {group}=NAME. Choices for {group}: {chosen}."
    for key, least, most in (("seed", 0, 2**32 - 1), ("threads", 1, MOST_THREADS)):
        value = config.get(key)
        if isinstance(value, int) and not least <= value <= most:
            yield key, f"{value} is out of range: {least} to {most}."
    name = config.get("name")
    if isinstance(name, str) and (name in ("", ".", "..") or any(mark in name for mark in "/\\\0")):
        yield (
            "name",
            f"{name!r} is not the name of one folder below paths.runs; paths.root=DIR says where that is.",
        )


def check_node(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """The mistakes in one node and in the nodes below it, as (dotted key, text)."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from check_node(item, f"{path}.{index}")
    if not isinstance(node, dict):
        return
    if "_target_" not in node:
        for key, value in node.items():
            yield from check_node(value, f"{path}.{key}")
        return
    try:
        signature = signature_of(node["_target_"])
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        yield f"{path}._target_", str(error)
        return
    yield from _check_signature(signature, node, path)


def _check_signature(signature: Signature, node: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    named = list(signature.names)
    unknown = [] if signature.open_ended else [k for k in node if k not in MARKS and k not in named]
    strange = [key for key in unknown if not did_you_mean(key, named)]
    if another := len(strange) > 1:  # the group's keys are of another class: one message
        keys = ", ".join(strange)
        yield (
            f"{path}._target_",
            f"{node['_target_']} takes none of {keys}; it takes {', '.join(named)}.",
        )
    for key, value in node.items():
        if key in MARKS:
            yield from type_problems(value, MARKS[key], f"{path}.{key}")
            continue
        if key not in named:
            if key in unknown and not (another and key in strange):
                hint = (
                    did_you_mean(key, named) or f" ~{path}.{key} leaves it out; it takes {', '.join(named)}."
                )
                yield f"{path}.{key}", f"{node['_target_']} takes no '{key}'.{hint}"
        elif any(isinstance(item, dict) and "_target_" in item for item in (value, *listed(value))):
            yield from check_node(value, f"{path}.{key}")
        else:
            yield from type_problems(value, signature.hints.get(key, Any), f"{path}.{key}")
    if not node.get("_partial_") and not another:
        for name in named:
            if name in signature.required and name not in {*node, *SUPPLIED}:
                yield f"{path}.{name}", f"{node['_target_']} needs '{name}'; give {path}.{name}=..."


def listed(value: Any) -> list[Any]:
    """The items of a list; nothing for any other value."""
    return value if isinstance(value, list) else []
