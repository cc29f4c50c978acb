"""The record of one run: its identity, its directory and the files in it."""
