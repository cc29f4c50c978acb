"""Weights go from one network to another by part and by token, never silently; a grown network is the same function."""

from functools import partial

import pytest
import torch
from torch import nn

from gatelab.core import GRU, LSTM, Forecaster, LanguageModel, SequenceClassifier, TorchGRU, Translator
from gatelab.core.weights.convert import with_own_names
from gatelab.core.weights.transfer import part_of, parts_of, plain_name, take_over

WORDS = [*"abcdefg"]


def language_model(words=WORDS, hidden=6, layers=2, cell=GRU, **options):
    core = partial(cell, hidden_size=hidden, num_layers=layers)
    return LanguageModel(len(words), core, **{"embedding_size": 4, "tied": False, **options})


def classifier(words=WORDS, hidden=6, cell=GRU, **options):
    core = partial(cell, hidden_size=hidden, num_layers=2)
    return SequenceClassifier(len(words), 3, core, embedding_size=4, **options)


def segments(hidden):
    core = partial(GRU, hidden_size=hidden)
    options = {"channel_independent": True, "decoder": "segments", "patch": 4}
    return Forecaster(2, 8, core, **options)


def translator(hidden):
    return Translator(7, partial(GRU, hidden_size=hidden), embedding_size=4, tied=False)


def tokens(words):
    return {"": words}


def test_a_stack_and_weight_drop_have_the_parts_and_names_of_one_plain_core():
    plain, stack = language_model(), language_model(locked_dropout=True, weight_drop=0.3)
    assert set(map(plain_name, stack.state_dict())) == set(plain.state_dict())
    assert parts_of(stack.state_dict()) == ["embedding", "core.0", "core.1", "head"]
    assert part_of("encoder.weight_hh_l1_reverse") == "encoder.1"


def test_a_classifier_takes_embedding_and_core_of_a_language_model_and_says_what_it_left():
    source, net = language_model(locked_dropout=True, weight_drop=0.3), classifier()
    found = take_over(
        net, source.state_dict(), skip=["head"], tokens=tokens(WORDS), their_tokens=tokens(WORDS)
    )
    for name, value in source.state_dict().items():
        if part_of(name) != "head":
            assert torch.equal(net.state_dict()[plain_name(name)], value), name
    assert found.left == ["head.0.weight", "head.0.bias"]
    assert found.unused == ["head.weight", "head.bias"]
    assert "taken: 9 tensors, embedding, core.0, core.1" in str(found)


def test_rows_are_matched_by_token_and_new_ones_are_the_mean_row():
    source, net = language_model(), language_model([*"gxa"])
    found = take_over(net, source.state_dict(), tokens=tokens([*"gxa"]), their_tokens=tokens(WORDS))
    assert found.rows == dict.fromkeys(("embedding.weight", "head.weight", "head.bias"), (2, 3))
    for name in found.rows:
        theirs, own = source.state_dict()[name], net.state_dict()[name]
        assert torch.equal(own[[0, 2]], theirs[[6, 0]])
        torch.testing.assert_close(own[1], theirs.mean(0))


def test_a_layer_can_be_asked_for_by_its_number():
    source, net = language_model(), language_model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    take_over(net, source.state_dict(), parts=["core.1"])
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert {part_of(name) for name in changed} == {"core.1"}


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (language_model(hidden=5), {}, r"core.weight_ih_l0 is \[15, 4\] there and \[18, 4\] here"),
        (language_model(cell=LSTM), {}, r"core.weight_ih_l0 is \[24, 4\] there"),
        (
            language_model(),
            {"parts": ["decoder"]},
            "the source has no part 'decoder'; its parts are embedding",
        ),
        (language_model(), {"parts": ["core.2"]}, "no part 'core.2'"),
        (nn.Linear(2, 2), {}, "no part in common: weight, bias there, embedding, core.0"),
        (language_model([*"xyz"]), {"their_tokens": tokens([*"xyz"])}, "no token of the source"),
        (
            language_model(cutoffs=[2]),
            {"parts": ["embedding", "core"], "their_tokens": tokens([*"gabcdef", "h"])},
            "embedding.weight belongs to the source's vocabulary of 8 tokens",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(source, options, said):
    net = language_model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=said):
        take_over(net, source.state_dict(), **{"tokens": tokens(WORDS), **options})
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_an_adaptive_softmax_of_another_vocabulary_is_refused_though_its_shapes_fit():
    source, net = language_model(cutoffs=[2]), language_model(cutoffs=[2])
    with pytest.raises(ValueError, match=r"head\.softmax\.head\.weight belongs to the source's vocabulary"):
        take_over(net, source.state_dict(), tokens=tokens(WORDS), their_tokens=tokens([*"gfedcba"]))


def test_an_adaptive_softmax_of_the_same_vocabulary_is_taken_whole():
    source, net = language_model(cutoffs=[2]), language_model(cutoffs=[2])
    found = take_over(net, source.state_dict(), tokens=tokens(WORDS), their_tokens=tokens(WORDS))
    assert found.rows == {"embedding.weight": (7, 7)}
    assert not found.left


NETWORKS = {
    "language model": (language_model, (torch.randint(7, (9, 3)),)),
    "a stack, its embedding grows too": (
        partial(language_model, embedding_size=None, locked_dropout=True),
        (torch.randint(7, (9, 3)),),
    ),
    "LSTM": (partial(language_model, cell=LSTM), (torch.randint(7, (9, 3)),)),
    "classifier in both directions": (
        partial(classifier, bidirectional=True),
        (torch.randint(7, (3, 9)), torch.tensor([9, 4, 1])),
    ),
    "attention": (partial(classifier, pooling="attention", heads=2), (torch.randint(7, (3, 9)),)),
    "forecaster": (
        lambda hidden=6: Forecaster(2, 5, partial(GRU, hidden_size=hidden, num_layers=2, layer_norm=True)),
        (torch.randn(3, 9, 2),),
    ),
}  # fmt: skip


def first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(("make", "inputs"), NETWORKS.values(), ids=NETWORKS)
def test_a_grown_network_computes_the_same_function(make, inputs, k):
    torch.manual_seed(0)
    small, large = make().double().eval(), make(hidden=6 * k).double().eval()
    found = take_over(large, small.state_dict(), grow=True)
    assert found.grown == k
    assert not found.left
    torch.testing.assert_close(first(large(*inputs)), first(small(*inputs)), rtol=0, atol=1e-12)
    small, large = small.float(), large.float()
    inputs = [x.float() if x.is_floating_point() else x for x in inputs]
    torch.testing.assert_close(first(large(*inputs)), first(small(*inputs)), rtol=0, atol=1e-6)


def test_training_tells_the_copies_of_a_unit_apart():
    torch.manual_seed(0)
    small, large = language_model(), language_model(hidden=12)
    take_over(large, small.state_dict(), grow=True)
    rows = large.core.weight_hh_l0
    torch.testing.assert_close(rows[:6] @ torch.ones(12), rows[6:12] @ torch.ones(12))  # equal units
    first(large(torch.randint(7, (9, 3)))).logsumexp(-1).sum().backward()
    for parameter in (large.core.weight_ih_l0, large.core.weight_ih_l1):
        one, other = parameter.grad.view(3, 2, 6, -1).unbind(1)
        assert ((one - other).abs() > 1e-3 * one.abs()).double().mean() > 0.9


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (language_model(), language_model(hidden=9), "hidden size of 6 does not grow to 9"),
        (language_model(), language_model(), "does not grow to 6"),
        (language_model(), language_model(hidden=12, embedding_size=5), "which is not 2 times as many"),
        (
            language_model(cutoffs=[3]),
            language_model(hidden=12, cutoffs=[3]),
            "head.softmax.tail.0.0.weight is",
        ),
        (
            language_model(tied=True, embedding_size=None),
            language_model(hidden=12, tied=True, embedding_size=None),
            "tied weights cannot grow",
        ),
    ],
)
def test_growth_that_cannot_keep_the_function_is_refused(source, target, said):
    with pytest.raises(ValueError, match=said):
        take_over(target, source.state_dict(), grow=True)


def test_weights_of_torch_and_of_awd_lstm_lm_get_our_names():
    source = language_model(cell=TorchGRU)
    layers = source.core.state_dict()
    assert with_own_names(layers) == {f"core.{name}": value for name, value in layers.items()}
    awd = {f"rnns.{n[-1]}.module.{n[:-1]}0": v for n, v in layers.items() if "weight_hh" not in n}
    awd |= {f"rnns.{n[-1]}.module.{n[:-1]}0_raw": v for n, v in layers.items() if "weight_hh" in n}
    awd |= {f"rnns.{n[-1]}.module.{n[:-1]}0": v * 0 for n, v in layers.items() if "weight_hh" in n}  # dropped
    awd |= {"encoder.weight": source.embedding.weight, "decoder.weight": source.head.weight}
    awd |= {"decoder.bias": source.head.bias}
    net = language_model()
    take_over(net, with_own_names(awd), parts=["embedding", "core", "head"], tokens=tokens(WORDS))
    for name, value in source.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name
