"""A source: weights that a configuration names, of a run or in a file, as plain tensors.

It is data, never code: a stranger's run or file is read with `weights_only`, and nothing that it names is built. What
is read: a run's checkpoint; a file of `gatelab export --format safetensors`; a state dict saved by torch (of a layer of
torch.nn, or of awd-lstm-lm); Keras' `layer.get_weights()` saved with `numpy.savez`.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatelab.core.weights.compression import unpack
from gatelab.core.weights.convert import from_keras, with_own_names
from gatelab.data.messages import few
from gatelab.run import RequestError
from gatelab.run.record.directory import DAMAGED, read_record
from gatelab.run.record.sources import RECORDED, checked_file, sources_of
from gatelab.tasks import CheckpointError, load_checkpoint

KEY = "init.from"
READS = (
    "give a run directory, a .safetensors of `gatelab export`, a torch.save of a state_dict (.pt), or a .npz of Keras' "
    "get_weights()"
)


@dataclass(frozen=True)
class Source:
    """Weights that a configuration names.

    Attributes:
        named: what the configuration says.
        file, sha256: the file with the weights.
        weights: by the names that they have in a network of this project.
        config: the recorded configuration of the run that made them; empty where the file is not one of ours.
        tokenizer: its vocabulary, or None.
    """

    named: str
    file: Path
    sha256: str
    weights: dict[str, Tensor]
    config: dict[str, Any]
    tokenizer: Any

    @property
    def task(self) -> str | None:
        """The class of the source's task, None where it is not known."""
        return (self.config.get("task") or {}).get("_target_")

    @property
    def cell(self) -> str | None:
        """The kind of the source's layers, as `cell_of` names it; None where it is not known."""
        return cell_of(self.config)

    def record(self) -> dict[str, Any]:
        """What a run's record says of it."""
        return {"named": self.named, "file": self.file.name, "sha256": self.sha256}


def cell_of(config: Mapping[str, Any]) -> str | None:
    """The class of the layers that a configuration names, without its package, and the options that make it another.

    torch.nn's are the same as ours.
    """
    model = config.get("model")
    if not isinstance(model, Mapping) or not isinstance(target := model.get("_target_"), str):
        return None
    usual = {"reset_after": True, "layer_norm": False, "nonlinearity": "tanh"}
    options = [f" {key}={model[key]}" for key, value in usual.items() if model.get(key, value) != value]
    return target.rsplit(".", 1)[-1].removeprefix("Torch") + "".join(options)


def open_source(config: Mapping[str, Any]) -> Source:
    """The source that `init.from` of a resolved configuration names.

    Raises:
        RequestError: it is gone, has changed, or holds no weights.
    """
    file = checked_file(config, KEY)
    weights, recorded = read_weights(file, KEY)
    for folder in (file.parent, file.parent.parent):  # checkpoints/best.ckpt, export/model.safetensors
        if not recorded and (folder / "run.json").is_file():
            recorded = read_record(folder / "run.json", {"config": dict})["config"]
    if any(not _names_a_class(recorded.get(group)) for group in ("task", "model")):
        raise RequestError(f"{KEY}={file}: what it says of itself is damaged; {READS}.")
    sha256 = (config.get(RECORDED) or {}).get(KEY, "")
    return Source(sources_of(config)[KEY], file, sha256, weights, recorded, _tokenizer_near(file))


def _names_a_class(node: Any) -> bool:
    """Whether a group of a recorded configuration is what it is in ours; None says nothing."""
    return node is None or (isinstance(node, dict) and isinstance(node.get("_target_"), str))


def read_weights(file: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file by their names in a network of this project, and the configuration that is kept in it.

    Raises:
        RequestError: it is no such file, or is damaged; `key` is named.
    """
    config: dict[str, Any] = {}
    try:
        if file.suffix == ".safetensors":
            weights, config = _safetensors(file)
        elif file.suffix == ".npz":
            weights = _keras(file)
        elif file.suffix in (".h5", ".hdf5", ".keras"):
            raise ValueError(
                "Keras' own files are not read: numpy.savez(FILE, *layer.get_weights()) writes a .npz"
            )
        else:
            weights, config = _torch(file)
    except (AttributeError, RecursionError):  # a list where a mapping belongs
        raise RequestError(f"{key}={file}: what it says of itself is damaged; {READS}.") from None
    except (CheckpointError, OSError, MemoryError, RuntimeError, *DAMAGED) as error:
        raise RequestError(f"{key}={file}: {str(error).rstrip('.')}; {READS}.") from None
    if not weights or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise RequestError(f"{key}={file}: holds no weights by name; {READS}.")
    if wrong := [f"{name} {why}" for name, tensor in weights.items() if (why := _no_weight(tensor))]:
        raise RequestError(f"{key}={file}: {few(wrong)}; {READS}.")
    return with_own_names(weights), config


def _no_weight(tensor: Tensor) -> str | None:
    """Why a tensor of a file cannot be a weight; None if it can."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        return "is no plain tensor"
    if tensor.is_meta or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return "has a shape and not as many values"
    if not tensor.is_floating_point():
        return f"holds {str(tensor.dtype).removeprefix('torch.')}, no floating-point numbers"
    return None


def _safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            note = opened.metadata() or {}
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"damaged, or no safetensors ({error})") from None
    weights = unpack(weights, json.loads(note.get("packed", "{}")))
    shared = json.loads(note.get("shared", "{}"))
    weights |= {name: weights[source] for name, source in shared.items()}
    return weights, dict(json.loads(note.get("gatelab", "{}")).get("config") or {})


def _keras(file: Path) -> dict[str, Tensor]:
    # opened here: NumPy leaves a file open that is no archive
    with (
        contextlib.suppress(zipfile.BadZipFile, EOFError),
        file.open("rb") as opened,
        np.load(opened, allow_pickle=False) as arrays,
    ):
        if wrong := [name for name in arrays.files if arrays[name].dtype.kind != "f"]:
            raise ValueError(f"{wrong[0]} holds no floating-point numbers")
        found = [torch.from_numpy(arrays[name]) for name in arrays.files]
        biases = found[2].dim() if len(found) > 2 else 2
        return dict(from_keras(found, reset_after=biases == 2).state_dict())
    raise ValueError("damaged, or no .npz")


def _torch(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if zipfile.is_zipfile(file):
        loaded: Any = load_checkpoint(file)
    else:  # torch.save of before 2020
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # the unpickler raises almost anything
            # of an empty file there is no text
            first = (str(error).splitlines() or [type(error).__name__])[0]
            reason = first if "weights_only" not in str(error).lower() else "it names classes"
            raise ValueError(
                f"not a file of tensors ({reason[:100]}); of a model that was saved whole, save model.state_dict()"
            ) from None
    if not isinstance(loaded, dict):
        raise TypeError("holds no dictionary of tensors")
    config = (loaded.get("hyper_parameters") or {}).get("config") or {}
    weights = loaded.get("state_dict", loaded)
    return {str(name): tensor for name, tensor in weights.items()}, dict(config)


def _tokenizer_near(file: Path) -> Any:
    from gatelab.data.text.tokenizer import tokenizer_from_dict

    for folder in (file.parent, file.parent.parent):
        if (found := folder / "tokenizer.json").is_file():
            try:
                return tokenizer_from_dict(read_record(found, {"level": str}))
            except Exception as error:
                raise RequestError(f"{found}: damaged ({error}).") from None
    return None
