"""Shared by the tests of the submitting side: a sweep of second-long runs."""

from gatelab.study.sweep import plan, submit

TINY = [
    "data=adding",
    "data.steps=8",
    "data.train_items=64",
    "data.eval_items=32",
    "trainer.max_epochs=1",
    "callbacks=none",
    "task.net.normalization=none",
]


def planned(*lines, **more):
    """The plan of a command, checked."""
    return plan(lines, **more)


def submitted(*lines, **more):
    """The study of a command, written and with its trials waiting; nothing is started."""
    made = planned(*lines, **more)
    counts = submit(made, force=more.get("force", False))
    return made, counts
