"""The named corpora have the examples that were published."""

import gzip

import numpy as np
import pytest

from gatelab.data import DataError, FetchError, LabelledTextDataModule, MNISTDataModule
from gatelab.data.labelled.mnist_module import read_idx


def test_trec_has_its_questions(mirror):
    data = LabelledTextDataModule("trec", mirror=str(mirror), min_count=2, lower=True)
    data.setup()
    assert data.spec.examples["train"] + data.spec.examples["valid"] == 5452
    assert data.spec.examples["test"] == 500
    batch = next(iter(data.test_dataloader()))
    one = data.spec.classes[batch.labels[0]], data.tokenizer.decode(batch.inputs[0, : batch.lengths[0]])
    assert one[0] in data.spec.classes
    assert one[1].endswith("?")


@pytest.mark.slow
def test_the_baselines_of_trec_are_those_that_are_known(mirror):
    data = LabelledTextDataModule("trec", mirror=str(mirror), min_count=2, lower=True)
    data.setup()
    found = data.baselines("test")
    assert (
        found["majority_class"]["accuracy"] == 94 / 500
    )  # entities are the most frequent in training, not in test
    assert found["bag_of_n_grams"]["accuracy"] > 0.85


@pytest.mark.slow
def test_names_have_their_languages_and_no_name_twice(mirror, tmp_path):
    options = {"level": "char", "mirror": str(mirror), "cache": str(tmp_path)}
    data = LabelledTextDataModule("names", duplicates="drop", **options)
    data.setup()
    assert len(data.spec.classes) == 18
    assert data.spec.classes[0] == "Arabic"
    assert sum(data.spec.examples.values()) == 18_012
    whole = LabelledTextDataModule("names", **options)
    whole.setup()
    assert sum(whole.spec.examples.values()) == 20_050


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def test_a_file_of_images_is_read_and_a_cut_one_is_refused(tmp_path):
    images = np.arange(2 * 28 * 28).reshape(2, 28, 28).astype(np.uint8)
    (tmp_path / "two.gz").write_bytes(gzip.compress(idx(images)))
    assert (read_idx(tmp_path / "two.gz") == images).all()
    (tmp_path / "cut").write_bytes(idx(images)[:-1])
    with pytest.raises(DataError, match="no whole file of bytes in IDX format"):
        read_idx(tmp_path / "cut")


@pytest.mark.parametrize("order", ["rows", "pixels", "permuted"])
def test_an_image_is_a_sequence_of_its_pixels(order, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
    (tmp_path / "three").write_bytes(idx(images))
    data = MNISTDataModule(order=order)

    class Spec:
        mean, std = (0.0,), (1.0,)

    named, (batch,) = data.new_examples(tmp_path / "three", Spec, None)
    assert named == {"image": [0, 1, 2]}
    assert list(batch.inputs.shape) == ([3, 28, 28] if order == "rows" else [3, 784, 1])
    flat = images.reshape(3, 784)
    if order == "permuted":
        assert (batch.inputs.numpy()[..., 0] != flat).any()
        assert (np.sort(batch.inputs.numpy()[..., 0]) == np.sort(flat)).all()
    else:
        assert (batch.inputs.numpy().reshape(3, 784) == flat).all()


@pytest.mark.slow
def test_derived_images_are_never_taken_for_the_published_ones(mirror, tmp_path):
    if not (mirror / "mnist" / "train-images-idx3-ubyte.DERIVED.gz").is_file():
        pytest.skip("the mirror has no derived images")
    data = MNISTDataModule(source="derived", mirror=str(mirror), cache=str(tmp_path))
    data.setup()
    assert data.spec.examples["test"] == 10_000
    assert any("not the published ones" in note for note in data.notes)
    assert "mnist/train-images-idx3-ubyte.DERIVED.gz" in data.fingerprint
    assert "mnist/train-images-idx3-ubyte.gz" not in data.fingerprint
    with pytest.raises(FetchError):
        MNISTDataModule(source="derived", mirror=str(tmp_path), cache=str(tmp_path)).setup()
