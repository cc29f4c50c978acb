"""Workers that claim trials from a queue and run each in a process of its own."""
