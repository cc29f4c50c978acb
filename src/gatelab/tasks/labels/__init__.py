"""Tasks whose answer is a label: the class of a whole sequence, or the keys of each frame."""
