"""What does not fit raises before the kernel sees it, and says which argument it was."""

import pytest
import torch

from gatelab.core.backends import native


def tensors():
    return {
        "x": torch.randn(3, 2, 5),
        "h0": torch.randn(2, 4),
        "w_ih": torch.randn(12, 5),
        "w_hh": torch.randn(12, 4),
        "b_ih": torch.randn(12),
        "b_hh": torch.randn(12),
    }


def run(**given):
    six = [given.pop(name) for name in tensors()]
    return native.run(*six, **given)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("h0", torch.randn(3, 4)),
        ("w_ih", torch.randn(12, 4)),
        ("w_hh", torch.randn(12, 5)),
        ("b_ih", torch.randn(11)),
        ("b_hh", torch.randn(12, 1)),
        ("x", torch.randn(3, 2)),
        ("x", torch.randn(0, 2, 5)),
        ("lengths", torch.tensor([1, 2, 3])),
        ("lengths", torch.tensor([1, 4])),
        ("lengths", torch.tensor([-1, 2])),
        ("reset_mask", torch.zeros(2, 3, dtype=torch.bool)),
    ],
)
def test_shapes_that_do_not_fit_are_named(name, wrong):
    with pytest.raises(ValueError, match=name if name != "x" else r"x .*\["):
        run(**{**tensors(), name: wrong}, reset_after=True)


@pytest.mark.parametrize("name", ["x", "h0", "w_ih", "w_hh", "b_ih", "b_hh"])
def test_other_types_than_float32_are_named(name):
    with pytest.raises(TypeError, match=f"{name} must be torch.float32"):
        run(**{**tensors(), name: tensors()[name].double()}, reset_after=True)
    with pytest.raises(TypeError, match=f"{name} must be torch.float32.*meta"):
        run(**{**tensors(), name: tensors()[name].to("meta")}, reset_after=True)


def test_types_of_lengths_and_reset_mask_are_named():
    with pytest.raises(TypeError, match=r"lengths must be torch\.int64"):
        run(**tensors(), reset_after=True, lengths=torch.tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match=r"reset_mask must be torch\.bool"):
        run(**tensors(), reset_after=True, reset_mask=torch.zeros(3, 2))


def test_reset_before_has_no_second_bias():
    with pytest.raises(ValueError, match="b_hh must be None"):
        run(**tensors(), reset_after=False)
