"""The lab: Hydra configurations, run identity, run records, training and evaluation.

The only ring that imports hydra and omegaconf. It is not a place for models, data or metrics:
it puts them together as a configuration says, and writes down what happened.
"""
