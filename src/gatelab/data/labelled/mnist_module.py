"""MNIST as sequences: 70,000 handwritten digits (LeCun et al. 1998), row by row or pixel by pixel.

Dimensions: `n` images of 28 rows of 28 pixels.
"""

import gzip
from pathlib import Path
from typing import Any, Final, Literal, Unpack

import numpy as np

from gatelab.data.fetch import Fetched, Source, fetch
from gatelab.data.labelled.examples import Labelled, Sequences
from gatelab.data.labelled.module import LabelledDataModule, LabelledOptions
from gatelab.data.labelled.spec import LabelledSpec
from gatelab.data.labelled.split import TEST, complete_parts
from gatelab.data.labelled.texts import UNGIVEN
from gatelab.data.messages import DataError

SIDE: Final = 28
MEAN, STD = 0.1307 * 255, 0.3081 * 255
"""Of the training pixels, as usually rounded."""
IMAGES: Final = {"train": "mnist/train-images-idx3-ubyte.gz", "test": "mnist/t10k-images-idx3-ubyte.gz"}
LABELS: Final = {"train": "mnist/train-labels-idx1-ubyte.gz", "test": "mnist/t10k-labels-idx1-ubyte.gz"}
DERIVED: Final = "mnist/train-images-idx3-ubyte.DERIVED.gz"
DERIVED_SOURCE: Final = Source(
    "(published nowhere; it stands in for the original where that cannot be had)",
    "93e036784f930730195681326e1602b1ef27f641efc0894ec4e9924776d448db",
)
Order = Literal["rows", "pixels", "permuted"]


def read_idx(path: Path) -> np.ndarray:
    """Return the array of bytes in a file of MNIST's format, which may be compressed."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    dimensions = raw[3] if raw[:3] == b"\0\0\x08" and len(raw) > 3 else 0
    shape = np.frombuffer(raw[4 : 4 + 4 * dimensions], ">i4")
    content = np.frombuffer(raw, np.uint8, offset=min(4 + 4 * dimensions, len(raw)))
    if not dimensions or len(content) != shape.prod():
        raise DataError(f"{path}: is no whole file of bytes in IDX format")
    return content.reshape(shape)


class MNISTDataModule(LabelledDataModule):
    """The digits: 60,000 to train and validate on, 10,000 to test.

    order: "rows": 28 steps of 28 pixels; "pixels": 784 steps (Le et al. 2015, arXiv:1504.00941); "permuted": the same
        in another order, which `permutation_seed` draws.
    source: "original": the published files; "derived": training images that were rebuilt from 8-bit sprites, in which
        about 0.05 % of the pixels differ. It is for trying things out; its scores are not of MNIST.

    The other arguments are those of `LabelledDataModule`.
    """

    inputs = "channels"

    def __init__(
        self,
        order: Order = "rows",
        permutation_seed: int = 0,
        source: Literal["original", "derived"] = "original",
        **labelled: Unpack[LabelledOptions],
    ) -> None:
        super().__init__(**labelled)
        if order not in ("rows", "pixels", "permuted"):
            raise DataError(f"data.order={order}: give rows, pixels or permuted")
        if source not in ("original", "derived"):
            raise DataError(f"data.source={source}: give original or derived")
        if permutation_seed < 0:
            raise DataError(f"data.permutation_seed={permutation_seed}: give 0 or more")
        self.order, self.permutation_seed, self.source = order, permutation_seed, source

    def _fetch(self, name: str) -> Fetched:
        if name == IMAGES["train"] and self.source == "derived":
            return fetch(DERIVED, mirror=self.mirror, cache=self.cache, source=DERIVED_SOURCE)
        return fetch(name, mirror=self.mirror, cache=self.cache)

    def _read(self) -> Labelled:
        files = {name: self._fetch(name) for name in (*IMAGES.values(), *LABELS.values())}
        images, labels = (
            np.concatenate([read_idx(files[name].path) for name in names.values()])
            for names in (IMAGES, LABELS)
        )
        labels = labels.astype(np.int64)
        notes = []
        if self.source == "derived":
            notes.append(
                "data.source=derived: the training images are not the published ones; no MNIST scores"
            )
        given = np.full(len(labels), UNGIVEN, dtype=np.int8)
        given[-10_000:] = TEST
        parts = complete_parts(
            labels, given, self.split, self.folds, self.fold, self.data_seed, notes, self.train_examples
        )
        fingerprint = {DERIVED if f.path.name in DERIVED else name: f.sha256 for name, f in files.items()}
        return Labelled(
            self._sequences(images),
            labels,
            parts,
            [str(digit) for digit in range(10)],
            mean=[MEAN],
            std=[STD],
            fingerprint=fingerprint,
            notes=notes,
        )

    def _sequences(self, images: np.ndarray) -> Sequences:
        """Images `[n, 28, 28]` in the order of reading."""
        steps, channels = (SIDE, SIDE) if self.order == "rows" else (SIDE * SIDE, 1)
        values = images.reshape(len(images), SIDE * SIDE)
        if self.order == "permuted":
            draw = np.random.Generator(np.random.PCG64(self.permutation_seed))
            values = values[:, draw.permutation(SIDE * SIDE)]
        return Sequences(values.reshape(-1, channels), np.arange(len(images) + 1) * steps)

    def new_examples(self, file: Path, spec: LabelledSpec, tokenizer: Any) -> tuple[dict[str, Any], Any]:
        """Read images of 28 rows of 28 pixels in MNIST's own format; see `LabelledDataModule`."""
        images = read_idx(file)
        if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
            raise DataError(f"holds an array {list(images.shape)}; give images [n, {SIDE}, {SIDE}]")
        return {"image": list(range(len(images)))}, self._batches(self._sequences(images), spec)
