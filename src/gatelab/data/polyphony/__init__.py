"""Polyphonic music as frames of keys."""
