"""Seconds per epoch of real training, for several models side by side in one run.

Each model trains the experiment for a slice of an epoch through the whole path (data, Lightning, checkpoint), in
turns, several rounds; the median over the rounds is scaled to an epoch. Validation is not counted. On a shared
machine only the ratios mean something.

example:
  python scripts/bench_epochs.py experiment=ptb_gru --models model=gru model=nn_gru
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile

from tqdm import tqdm


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "overrides", nargs="+", metavar="KEY=VALUE", help="the experiment, e.g. experiment=ptb_gru"
    )
    parser.add_argument(
        "--models", nargs="+", default=["model=gru", "model=nn_gru"], help="one override each"
    )
    parser.add_argument(
        "--batches", type=int, default=60, help="training batches of a turn (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each model (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_intermixed_args()

    from gatelab.cli.common import print_json

    seconds: dict[str, list[float]] = {model: [] for model in options.models}
    batches = 0
    with tempfile.TemporaryDirectory() as root:
        for _ in tqdm(range(options.rounds), desc="rounds", file=sys.stderr):
            for model in options.models:
                taken, batches = turn(
                    [*options.overrides, *keep_sizes(model, options.overrides)], root, options.batches
                )
                seconds[model].append(taken * batches / options.batches)
    first = statistics.median(seconds[options.models[-1]])
    rows = {m: {"seconds_per_epoch": statistics.median(s), "rounds": s} for m, s in seconds.items()}
    for row in rows.values():
        row["ratio_to_last"] = first / row["seconds_per_epoch"]
    if options.json:
        print_json({"overrides": options.overrides, "batches_per_epoch": batches, "models": rows})
        return 0
    print(f"{' '.join(options.overrides)}: {batches} batches an epoch")
    for model, row in rows.items():
        ratio = f"{row['ratio_to_last']:.2f}x of {options.models[-1]}"
        print(f"  {model:32} {row['seconds_per_epoch']:8.1f} s/epoch   {ratio}")
    return 0


def keep_sizes(model: str, overrides: list[str]) -> list[str]:
    """The override of a model with the sizes that the experiment gives its own."""
    from gatelab.lab.compose import compose

    sizes = compose(overrides).plain()["model"]
    return [
        *model.split(),
        *(f"model.{key}={sizes[key]}" for key in ("hidden_size", "num_layers", "dropout")),
    ]


def turn(overrides: list[str], root: str, batches: int) -> tuple[float, int]:
    """Seconds for `batches` training batches, and the number of batches in a whole epoch."""
    from gatelab.lab.build import build_data, build_task, build_trainer, prepare_process
    from gatelab.lab.compose import compose
    from gatelab.lab.schema import check
    from gatelab.tasks.callbacks import Throughput

    limits = ["trainer.max_epochs=1", f"trainer.limit_train_batches={batches}", "trainer.limit_val_batches=0"]
    plain = check(compose([*overrides, *limits]))
    prepare_process(plain)
    data = build_data(plain)
    clock = Throughput()
    trainer = build_trainer(plain, callbacks=[clock], loggers=[], run_dir=root)
    trainer.fit(build_task(plain, data.spec), datamodule=data)
    return clock.seconds, len(data.train_dataloader())


if __name__ == "__main__":
    sys.exit(main())
