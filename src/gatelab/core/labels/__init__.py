"""Networks that tell the classes of sequences, and which keys sound next."""
