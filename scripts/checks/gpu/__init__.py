"""Everything that has to be seen on a GPU: `python -m scripts.checks.gpu`."""
