"""Studies: one Optuna study and one folder, filled by workers that any Hydra launcher starts.

`sweep.py` is the submitting side, `worker.py` the side that trains; a trial is ordinary runs of `lab.train`,
each in a process of its own. What a finished study says is read from its folder (`read.py` and the files
beside it). Nothing here knows a model or a data set.
"""
