"""Networks that write speech down, and how a transcript is read from what they give."""
