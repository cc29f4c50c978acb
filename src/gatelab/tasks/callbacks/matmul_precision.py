"""Faster products of float32 matrices while a run trains, in full precision wherever it is scored."""

from typing import Literal

import pytorch_lightning as pl
import torch


class MatmulPrecision(pl.Callback):
    """Let products of float32 matrices use the device's TF32 or BF16 units in training steps.

    Sums stay in float32, and so do weights, states and the optimiser. It reaches the products that PyTorch does (the
    head of a language model, `nn.Linear`), those of backend `native` where the processor has AVX512-BF16, those of
    backend `triton` and, on a GPU, those of cuDNN (the layers of `torch.nn` and backend `cudnn`, in TF32 either way).
    Validation and the final scores are computed in full precision, so that a score says what the weights are worth.

    Args:
        precision: as `torch.set_float32_matmul_precision` takes it: `high` reads 10 bits of each factor's 23 (or
            splits them), `medium` 7.
    """

    def __init__(self, precision: Literal["high", "medium"]) -> None:
        self.precision = precision
        self._before = _now()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the lower precision."""
        self._lower()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score in the precision from before."""
        _set(*self._before)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train on."""
        if not trainer.sanity_checking:
            self._lower()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the process as it was."""
        _set(*self._before)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the process as it was."""
        _set(*self._before)

    def _lower(self) -> None:
        _set(self.precision, True)


def _now() -> tuple[str, bool]:
    """The precision of products, and whether cuDNN may use TF32."""
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def _set(precision: str, cudnn_tf32: bool) -> None:
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = cudnn_tf32
