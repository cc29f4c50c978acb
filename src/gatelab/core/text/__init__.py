"""What a language model needs beside its network: the head, scoring in other ways, drawing text."""
