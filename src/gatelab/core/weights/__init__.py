"""Weights on their way: to and from other projects, into other networks, into fewer bytes."""
