"""The recogniser: what is padded reaches nothing, and pieces give what the whole gives."""

import functools

import pytest
import torch

from gatelab.core import GRU, LSTM, SpeechRecognizer

SYMBOLS, CHANNELS = 5, 6
NETS = {
    "plain": {},
    "stacked": {"stride": 3},
    "convolution": {"filters": 7, "kernel": 4, "stride": 2},
}


def made(core=GRU, **options):
    torch.manual_seed(0)
    make = functools.partial(core, hidden_size=8, num_layers=2)
    return SpeechRecognizer(SYMBOLS, CHANNELS, make, **options).double()


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_a_padded_batch_gives_what_single_utterances_give(options, both):
    net = made(bidirectional=both, **options)
    lengths = torch.tensor([12, 7, 3])
    frames = torch.randn(3, 12, CHANNELS, dtype=torch.float64)
    frames[1, 7:], frames[2, 3:] = 1e3, -1e3
    logits = net(frames, lengths=lengths)[0]
    for number, (length, steps) in enumerate(zip(lengths.tolist(), net.steps(lengths).tolist(), strict=True)):
        alone = net(frames[number : number + 1, :length])[0]
        assert alone.shape == (steps, 1, SYMBOLS + 1)
        assert (alone[:, 0] - logits[:steps, number]).abs().max() < 1e-12


@pytest.mark.parametrize("core", [GRU, LSTM])
@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_pieces_give_what_the_whole_gives(options, core):
    net = made(core, **options)
    frames = torch.randn(2, 12, CHANNELS, dtype=torch.float64)
    whole, last = net(frames)
    state, pieces, at = None, [], 0
    for size in (net.stride, 2 * net.stride, 12 - 3 * net.stride):
        logits, state = net(frames[:, at : at + size], state)
        pieces.append(logits)
        at += size
    assert net.streams
    assert (torch.cat(pieces) - whole).abs().max() < 1e-12
    for mine, theirs in zip(
        torch.utils._pytree.tree_leaves(state), torch.utils._pytree.tree_leaves(last), strict=True
    ):
        assert (mine - theirs).abs().max() < 1e-12


def test_a_later_frame_changes_no_earlier_output():
    net = made(**NETS["convolution"])
    frames = torch.randn(1, 12, CHANNELS, dtype=torch.float64)
    before = net(frames)[0]
    frames[:, 8] += 1
    changed = (net(frames)[0] != before).any(-1)[:, 0].tolist()
    assert changed == [False] * 4 + [True] * 2
    assert not made(bidirectional=True).streams


@pytest.mark.parametrize(
    ("options", "message"),
    [({"stride": 0}, "stride=0"), ({"filters": 0}, "filters=0"), ({"dropout": 1.5}, "dropout")],
)
def test_options_that_make_no_network_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_too_few_frames_for_a_step_are_refused():
    with pytest.raises(ValueError, match="2 frames are fewer than the stride of 3"):
        made(stride=3)(torch.zeros(1, 2, CHANNELS, dtype=torch.float64))
