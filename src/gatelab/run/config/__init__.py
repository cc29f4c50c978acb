"""Compose a configuration from conf/ and overrides, and check it before anything runs."""
