"""The network of a run compiled by `torch.compile` while it trains, with CUDA graphs where these are asked for.

`nn.Module.compile` compiles a module's call in place: no module is wrapped, so no key of a checkpoint changes, and a
run is scored, exported and loaded without a compiler. What a task calls of its network is the network itself, or parts
of it (a language model's core and head), so both are compiled; what lies between the parts is not.
"""

import importlib.util
import os
import shlex
import shutil
import sys
from typing import Any, Literal

import pytorch_lightning as pl
import torch

Compiling = Literal["default", "reduce-overhead", "cudagraphs", "aot_eager", "eager"]
GRAPHS = ("reduce-overhead", "cudagraphs")
"""Those that replay CUDA graphs."""
INDUCTOR = ("default", "reduce-overhead")
"""Those that write kernels, and need a compiler for them; they are modes of `torch.compile`, the others backends."""


class Compile(pl.Callback):
    """Compile the task's network for training and its validations.

    Args:
        how: `default`: PyTorch's Inductor writes kernels that do several operations at once (Ansel et al. 2024,
            "PyTorch 2", ASPLOS), in Triton for a GPU and in C++ for the CPU. `cudagraphs`: a step's launches on a GPU
            are recorded once for each shape of a batch and replayed, which helps where the kernels are small.
            `reduce-overhead`: both. `aot_eager`, `eager`: the traced network, computed as without a compiler, to find
            out what is at fault.

    A batch of another shape is compiled again; after eight shapes the rest is computed as without a compiler. The last
    digits differ from those of a run that is not compiled.

    Refused before the first step, as a ValueError: see `why_not`.
    """

    def __init__(self, how: Compiling) -> None:
        self.how = how

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compile; each part is traced when it is called first."""
        gpu = pl_module.device.type == "cuda"
        if why := why_not(self.how, gpu, trainer.accumulate_grad_batches):
            raise ValueError(why)
        given = {"mode": self.how} if self.how in INDUCTOR else {"backend": self.how}
        net: Any = pl_module.net
        for part in (net, *net.children()):
            part.compile(**given)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell CUDA graphs that what the last step left in their memory is no longer needed."""
        torch.compiler.cudagraph_mark_step_begin()

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """As before a training batch."""
        torch.compiler.cudagraph_mark_step_begin()


def why_not(how: str, gpu: bool, accumulate: int) -> str | None:
    """Why a network cannot be compiled so on a GPU or CPU, with what to do; None: it can."""
    if how in GRAPHS and not gpu:
        return f"compile={how} replays CUDA graphs, which a CPU has none of; take trainer=gpu, or compile=default"
    if how in GRAPHS and accumulate > 1:
        return (
            f"compile={how}: the gradient of a micro-batch lies in the memory of a CUDA graph, which the next one "
            "overwrites; take trainer.accumulate_grad_batches=1, or compile=default"
        )
    if how not in INDUCTOR:
        return None
    if gpu and importlib.util.find_spec("triton") is None:
        return f"compile={how} needs Triton on a GPU: pip install triton (compile=cudagraphs needs none)"
    command = shlex.split(os.environ.get("CXX", "")) or ["clang++" if sys.platform == "darwin" else "g++"]
    if not gpu and shutil.which(command[0]) is None:
        return f"compile={how} needs a C++ compiler, and there is no {command[0]}: install it, or set CXX"
    return None
