"""Write a run's network as a file that needs no Gatelab, and check it against the run's own outputs.

safetensors     the weights, with the configuration and the data's spec in the metadata; compared bit for bit
onnx            the graph for ONNX Runtime; batch and, for GRU, LSTM and RNN, time are free
torch-export    the graph for torch.export.load; batch is free, and time for a language model without --steps

A language model takes tokens [T, B] and its state and gives logits [T, B, V] and the state after; a forecaster takes
the standardised past [B, T, C] and gives the standardised forecast [B, P, K].

--prune and --int8 make the file smaller and say what that costs in the run's metric on the validation split.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gatelab.cli.common import add_run_dir, loading, print_json
from gatelab.tasks.signals import finish

FORMATS = ("safetensors", "onnx", "torch-export")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser)
    parser.add_argument("--format", choices=FORMATS, default="safetensors", help="default: safetensors")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: export/model.* in the run directory"
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="T",
        help="a graph for T steps only: with one, a step is fastest (a forecaster's default: its look-back)",
    )
    parser.add_argument(
        "--part",
        metavar="NAME",
        help="a part of the network as a graph of its own: a translator's encoder or step",
    )
    parser.add_argument(
        "--prune",
        type=float,
        metavar="SHARE",
        help="set that share of the weights, the smallest, to zero: 0.5 (a graph gets no smaller by it)",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="round the weights to 8 bits; an ONNX graph, of a fixed number of steps, multiplies in 8 bits too",
    )
    parser.add_argument(
        "--test", action="store_true", help="what --prune and --int8 cost on the test split too"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def run(options: argparse.Namespace) -> int:
    """Export and print."""
    with loading():
        from gatelab.run.export import export

    done = export(
        options.run_dir,
        options.format,
        options.output,
        steps=options.steps,
        part=options.part,
        prune=options.prune,
        int8=options.int8,
        test=options.test,
        force=options.force,
        trust=options.trust,
    )
    finish()
    if options.json:
        print_json(vars(done))
        return 0
    print(f"{done.file}: {done.bytes:,} bytes, weights of {done.checkpoint}")
    whose = "the run's own outputs" if done.bytes_before is None else "those of the compressed weights"
    exact = "bit for bit" if done.tolerance == 0 else f"allowed: {done.tolerance:g} of the largest output"
    print(f"largest difference from {whose}: {done.difference:.3g} ({exact})")
    if done.bytes_before is not None:
        times = done.bytes_before / done.bytes
        print(f"without --prune and --int8: {done.bytes_before:,} bytes, {times:.2f} times as many")
    for split, metrics in done.cost.items():
        one = metrics[done.monitor]
        print(
            f"{split}/{done.monitor}, by the {done.scored}: {one['exported']:.5g}, the run's own {one['run']:.5g} "
            f"({one['difference']:+.3g})"
        )
    if done.format != "safetensors":
        for name, shape in done.inputs.items():
            print(f"  in   {name} {shape}".replace("'", ""))
        print(f"  out  {', '.join(done.outputs)}")
    return 0
