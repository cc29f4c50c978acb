"""The commands: one short file each. What they do is in the lab; here are arguments, output and exit codes."""
