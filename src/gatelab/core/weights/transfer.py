"""From the weights of one network to those of another: by parts, by token, and into a larger one.

A network's tensors belong to parts, which are named after the modules that hold them, from input to output:
`embedding`, each layer of a recurrent core by its number (`core.0`, `core.1`), `head`. A name is the same whether a
core is one layer of several or a `Stack`, and whether its matrices are dropped or not. A part is asked for by its name
or by the beginning of it: `core` is all of its layers.

A network says which of its parts have a row for each token in `of_tokens` (part -> side; sides other than "" are those
of a translation). Their rows are matched by token, not by number.

Growth keeps the function: see `grown`. Dimensions: H hidden units of the source, k times as many after growth.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

SHOWN = 20
"""Names of a list that a message gives."""
Tokens = Mapping[str, Sequence[str]]
"""Side -> the tokens in the order of their ids; "" where there are no sides."""
DROPPED = re.compile(r"parametrizations\.(\w+)\.original$")
STACKED = re.compile(r"layers\.(\d+)\.(\w+)_l0(_reverse)?$")
GROWS = re.compile(r"(^|\.)(weight|bias)$|_l\d+(_reverse)?$")
"""Names of the tensors of linear maps, embeddings, normalisations and recurrent layers."""
LAYER = re.compile(r"(.+)\.\w+_l(\d+)(?:_reverse)?$")


def plain_name(name: str) -> str:
    """The name of a tensor in a network whose core is one layer of several, without weight drop."""
    name = DROPPED.sub(r"\1", name)
    return STACKED.sub(lambda m: f"{m[2]}_l{m[1]}{m[3] or ''}", name)


def part_of(name: str) -> str:
    """The part that a tensor of this name belongs to."""
    name = plain_name(name)
    layer = LAYER.match(name)
    return f"{layer[1]}.{layer[2]}" if layer else name.split(".")[0]


def parts_of(names: Iterable[str]) -> list[str]:
    """The parts of tensors of these names, from input to output: as they come, the head last."""
    found = list(dict.fromkeys(map(part_of, names)))
    return sorted(found, key=lambda part: part == "head")


def _listed(names: Sequence[str]) -> str:
    """The names, the first of very many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def choose_parts(asked: Sequence[str], known: Sequence[str], whose: str) -> list[str]:
    """Those of `known` that are asked for, in their order.

    Raises ValueError for one that does not exist; `whose` says where.
    """
    for name in asked:
        if not any(part == name or part.startswith(f"{name}.") for part in known):
            raise ValueError(f"{whose} has no part {name!r}; its parts are {_listed(known)}")
    return [part for part in known if any(part == name or part.startswith(f"{name}.") for name in asked)]


@dataclass
class Taken:
    """What a network has taken from another one's weights; every tensor of both is in one of the lists.

    taken, left: tensors of the network that have the source's values, and those that keep their own; unused: tensors of
    the source. rows: tensor -> (rows that were matched by token, all rows); the others are the mean row. grown: k.
    """

    taken: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    grown: int = 1

    def __str__(self) -> str:
        lines = [f"taken: {len(self.taken)} tensors, {', '.join(parts_of(self.taken))}"]
        for name, (matched, total) in self.rows.items():
            lines.append(
                f"{name}: {matched:,} of {total:,} rows by token; new: {total - matched:,}, the mean row"
            )
        if self.grown > 1:
            lines.append(f"grown: {self.grown} times as many units, the same function")
        lines.append(f"left at their start: {', '.join(self.left) or 'none'}")
        lines.append(f"not used: {', '.join(self.unused) or 'none'}")
        return "\n".join(lines)


@torch.no_grad()
def take_over(
    net: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    parts: Sequence[str] | None = None,
    skip: Sequence[str] = (),
    tokens: Tokens | None = None,
    their_tokens: Tokens | None = None,
    grow: bool = False,
    seed: int = 0,
) -> Taken:
    """Give `net` the weights of another network, and say what was taken.

    Args:
        weights: of the source, by name; names as in a network of this project.
        parts: what to take; None: the parts that both networks have, without those of `skip` and, where the source
            names no tokens, those that have a row for each.
        tokens, their_tokens: of `net` and of the source.
        grow: the source may be smaller; `seed` draws how its weights are shared out, see `grown`.

    Raises ValueError, and changes nothing, where a part does not exist, a tensor has another shape, or no token of the
    source is one of `net`'s.
    """
    own = {plain_name(name): tensor for name, tensor in net.state_dict().items()}
    given = {plain_name(name): tensor for name, tensor in weights.items()}
    known, theirs = parts_of(own), parts_of(given)
    sides: Mapping[str, str] = getattr(net, "of_tokens", {})
    tokens, their_tokens = tokens or {}, their_tokens or {}
    if parts is None:
        unnamed = () if their_tokens or not tokens else tuple(sides)
        wanted = [part for part in known if part in theirs and part not in (*skip, *unnamed)]
        if not wanted:
            raise ValueError(
                f"the two networks have no part in common: {_listed(theirs)} there, {_listed(known)} here"
            )
    else:
        choose_parts(parts, theirs, "the source")
        wanted = choose_parts(parts, known, "this network")
    found = Taken()
    names = [name for name in own if part_of(name) in wanted and name in given]
    values = {name: given[name] for name in names}
    if grow:
        if not getattr(net, "grows", True):
            raise ValueError(
                f"a {type(net).__name__} has no larger one of the same function; leave init.grow out"
            )
        values, found.grown = grown(values, own, _embeddings(net), seed)
    wrong = []
    for name in names:
        side = sides.get(part_of(name))
        mine = tokens.get(side) if side is not None else None
        there = their_tokens.get(side, their_tokens.get("")) if side is not None else None
        if mine is not None and there is not None:
            values[name], matched = _by_token(name, values[name], own[name], list(there), list(mine))
            if len(own[name]) == len(mine):  # an adaptive softmax has no row for each
                found.rows[name] = (matched, len(mine))
        if values[name].shape != own[name].shape:
            wrong.append(f"{name} is {list(values[name].shape)} there and {list(own[name].shape)} here")
    if wrong:
        raise ValueError(
            f"{'; '.join(wrong[:SHOWN])}. Give this network the source's sizes, or leave the part out of init.parts"
        )
    filled = set()
    for name in names:
        own[name].copy_(values[name])
        filled.add(own[name].data_ptr())
    found.taken = [name for name in own if own[name].data_ptr() in filled and own[name].numel()]
    found.left = [name for name in own if name not in found.taken]
    found.unused = [name for name in given if name not in names]
    return found


def _by_token(
    name: str, theirs: Tensor, own: Tensor, there: list[str], mine: list[str]
) -> tuple[Tensor, int]:
    """The source's rows in the order of one's own tokens, new ones the mean row, and how many there were."""
    if there == mine:
        return theirs, len(mine)
    if len(theirs) != len(there) or len(own) != len(mine):
        raise ValueError(
            f"{name} belongs to the source's vocabulary of {len(there):,} tokens, and has no row for each: "
            "data.vocabulary=SOURCE reads the data with it; or leave the part out of init.parts"
        )
    index = {token: i for i, token in enumerate(there)}
    rows = torch.tensor([index.get(token, -1) for token in mine])
    matched = rows >= 0
    if not matched.any():
        raise ValueError(
            f"{name}: no token of the source is one of the data's, as {there[0]!r} and {mine[0]!r}: give data of the "
            "same level, or leave the part out of init.parts"
        )
    values = theirs.mean(0).expand(len(mine), *theirs.shape[1:]).clone()
    values[matched] = theirs[rows[matched]]
    return values, int(matched.sum())


def _embeddings(net: nn.Module) -> set[str]:
    return {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Embedding)}


def grown(
    weights: Mapping[str, Tensor], target: Mapping[str, Tensor], embeddings: Iterable[str] = (), seed: int = 0
) -> tuple[dict[str, Tensor], int]:
    """The weights of a network of k times as many units that computes the same function, and k.

    Every unit is there k times (Net2WiderNet, Chen et al. 2016, arXiv:1511.05641): what makes a unit is copied, and
    what reads it is shared out over its copies by random shares that add up to 1. Copies are equal until the first
    step; different shares give them different gradients, so that training tells them apart. A unit is made by rows of a
    matrix (of an embedding, one of `embeddings`, by columns), and read by columns.

    Args:
        target: the tensors of the larger network, for their shapes; those of the same shape are taken as they are.

    Raises ValueError where the larger network is not k times as wide throughout, and for an adaptive softmax, whose
    clusters have widths of their own.
    """
    for name, tensor in weights.items():
        if tensor.dim() != target[name].dim():
            raise ValueError(f"{name} is {list(tensor.shape)} there and {list(target[name].shape)} here")
    hidden = {tensor.shape[1] for name, tensor in weights.items() if "weight_hh_l" in name}
    wider = {target[name].shape[1] for name in weights if "weight_hh_l" in name}
    if len(hidden) != 1 or len(wider) != 1:
        raise ValueError(
            "growth needs a recurrent core whose layers all have one hidden size, in both networks, and init.parts "
            "with it"
        )
    units, more = hidden.pop(), wider.pop()
    k, rest = divmod(more, units)
    if rest or k < 2:
        raise ValueError(
            f"a hidden size of {units} does not grow to {more}: give model.hidden_size={2 * units}, say"
        )
    draw = torch.Generator().manual_seed(seed)
    read = set(embeddings)
    storage = [target[name].data_ptr() for name in weights if target[name].shape != weights[name].shape]
    if len(storage) != len(set(storage)):
        raise ValueError(
            "tied weights cannot grow: they make units and read them. Give an embedding of its own size "
            "(task.net.embedding_size), or train with task.net.tied=false"
        )
    found = {}
    for name, tensor in weights.items():
        for dim, size in enumerate(tensor.shape):
            if target[name].shape[dim] == size:
                continue
            if target[name].shape[dim] != k * size or size % units or not GROWS.search(name):
                raise ValueError(
                    f"{name} is {list(tensor.shape)} there and {list(target[name].shape)} here, which is not {k} times "
                    "as many units of a matrix: give both networks the same size there, or leave the part out of "
                    "init.parts"
                )
            blocks = tensor.unflatten(dim, (size // units, 1, units))
            if dim == 0 or name in read:
                several = blocks.expand(*[k if d == dim + 1 else -1 for d in range(blocks.dim())])
            else:
                several = blocks * _shares(blocks, dim + 1, k, draw)
            tensor = several.flatten(dim, dim + 2)
        found[name] = tensor
    return found, k


def _shares(blocks: Tensor, dim: int, k: int, draw: torch.Generator) -> Tensor:
    """Random shares around 1/k, k of them along `dim`, which add up to 1."""
    shape = list(blocks.shape)
    shape[dim] = k
    uneven = torch.rand(shape, generator=draw).to(blocks) - 0.5
    return (1 + uneven - uneven.mean(dim, keepdim=True)) / k
