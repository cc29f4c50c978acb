"""The edit distance (Levenshtein 1966): least insertions, deletions and substitutions from one sequence to another."""

from collections.abc import Sequence


def edit_distance(said: Sequence[object], truth: Sequence[object]) -> int:
    """Return the least number of edits that make `truth` of `said`."""
    row = list(range(len(truth) + 1))  # from the empty beginning of `said`
    for count, mine in enumerate(said, 1):
        diagonal, row[0] = row[0], count
        for place, theirs in enumerate(truth, 1):
            replaced = diagonal + (mine != theirs)
            diagonal = row[place]
            row[place] = min(replaced, diagonal + 1, row[place - 1] + 1)
    return row[-1]


def errors_of(said: str, truth: str) -> dict[str, int]:
    """Word and character errors of a transcript, and how many words and characters the true one has.

    Words are what white space parts; characters include the single spaces between words.
    """
    mine, theirs = said.split(), truth.split()
    return {
        "word_errors": edit_distance(mine, theirs),
        "words": len(theirs),
        "character_errors": edit_distance(" ".join(mine), " ".join(theirs)),
        "characters": len(" ".join(theirs)),
        "wrong": int(mine != theirs),
    }
