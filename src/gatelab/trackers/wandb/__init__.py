"""Weights & Biases: a process beside the run follows `metrics.csv` and uploads it; `gatelab sync` sends the rest."""
