"""The study engine: many runs as one study, and the views of it."""
