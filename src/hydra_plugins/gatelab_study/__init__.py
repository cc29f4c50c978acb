"""Gatelab's Hydra plugin: the sweeper `gatelab`.

Hydra imports this package at every start, so it imports nothing heavy. Hydra accepts plugins from the namespace
`hydra_plugins` only, which must not have an `__init__.py` of its own.
"""
