"""The error class for users: one line that names the problem and the remedy."""


class DecurError(ValueError):
    """Report bad input or a bad configuration; the message is shown without a traceback."""
