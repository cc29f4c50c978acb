"""Translation: encoder, attention, decoder, and the search for a translation."""
