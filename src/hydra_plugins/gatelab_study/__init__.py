"""Gatelab's Hydra plugins: the sweeper `gatelab` and the launchers `gatelab_local` and `gatelab_joblib`.

Hydra imports these modules at every start, so they import nothing heavy. Hydra accepts plugins from the namespace
`hydra_plugins` only, which must have no `__init__.py` of its own.
"""
