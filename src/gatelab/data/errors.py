"""The errors of the data ring: one for data that cannot be used, one for a file that cannot be had.

Both are `ValueError`s whose message names the file (or option), where in it the trouble is, and the fix.
"""


class DataError(ValueError):
    """The data or an option about it is unusable; the message says where and what to change."""


class FetchError(DataError):
    """A file is missing, could not be downloaded, or has other bytes than the ones that were published."""
