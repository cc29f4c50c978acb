"""`calibration.json` of a run: its intervals, calibrated on the validation split, once for the checkpoint that it has.

The figures are the task's (`Task.calibrate`); here is when they are made and where they are kept.
"""

from __future__ import annotations

import hashlib

import torch

from gatelab.data.files import write_json
from gatelab.data.messages import say
from gatelab.run import RequestError
from gatelab.run.build import request_errors
from gatelab.run.load import LoadedRun
from gatelab.run.record.directory import DAMAGED, DAMAGED_FIX, read_record


def use_calibration(loaded: LoadedRun) -> None:
    """Have the run's intervals calibrated: by the kept calibration of this very checkpoint, else by a new one.

    Raises:
        RequestError: the task has no intervals, the data are gone or changed, or the file is damaged.
    """
    file = loaded.run.calibration_file
    checkpoint = hashlib.sha256(loaded.checkpoint.read_bytes()).hexdigest()
    kept = read_record(file, {"checkpoint": str, "calibration": dict}) if file.is_file() else {}
    if kept.get("checkpoint") != checkpoint:
        with request_errors("--conformal"), torch.inference_mode():
            calibration = loaded.task.calibrate(loaded.data)
        kept = {"format": 1, "checkpoint": checkpoint, "calibration": calibration}
        try:
            with loaded.run.locked():
                write_json(file, kept)
        except OSError as error:
            say(f"the calibration is not kept in {loaded.run.path}: {error.strerror}")
    try:
        loaded.task.use_calibration(kept["calibration"])
    except DAMAGED as error:
        raise RequestError(f"{file}: {error}. {DAMAGED_FIX}") from None
