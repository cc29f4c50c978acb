"""Write a run's network as a file that needs no Gatelab, and check it against the run's own outputs.

safetensors     the weights, with the configuration and the data's spec in the metadata; compared bit for bit
onnx            the graph for ONNX Runtime; batch and, for GRU, LSTM and RNN, time are free
torch-export    the graph for torch.export.load; batch is free, and time for a language model without --steps

A language model takes tokens [T, B] and its state and gives logits [T, B, V] and the state after; a forecaster takes
the standardised past [B, T, C] and gives the standardised forecast [B, P, K].
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gatelab.cli.common import add_run_dir, loading, print_json

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
        force=options.force,
        trust=options.trust,
    )
    if options.json:
        print_json(vars(done))
        return 0
    print(f"{done.file}: {done.bytes:,} bytes, weights of {done.checkpoint}")
    exact = "bit for bit" if done.tolerance == 0 else f"allowed: {done.tolerance:g} of the largest output"
    print(f"largest difference from the run's own outputs: {done.difference:.3g} ({exact})")
    if done.format != "safetensors":
        for name, shape in done.inputs.items():
            print(f"  in   {name} {shape}".replace("'", ""))
        print(f"  out  {', '.join(done.outputs)}")
    return 0
