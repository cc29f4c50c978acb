"""From a request to a study: its settings, its grid, and every job checked before one starts."""
