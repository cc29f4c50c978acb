"""Pairs of sentences in two languages, for translation."""
