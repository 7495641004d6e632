"""The one error that users see: a single line that names the culprit and the remedy."""


class DecurError(ValueError):
    """Bad input or configuration; its message is shown without a traceback."""
