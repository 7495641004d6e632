"""Fetch files of weights that the authors released, by name."""

from pathlib import Path

from decur.config.released import BY_NAME
from decur.config.strict import did_you_mean
from decur.datasets import RemoteFile
from decur.download.fetch import fetch_all
from decur.errors import DecurError

DIGITS = 64
"""Number of hexadecimal digits of a full SHA-256."""


def fetch_released(name: str, folder: Path) -> Path:
    """Fetch a released file into `folder`, and check as much of its checksum as is known.

    Raises:
        DecurError: no file has this name, it cannot be fetched, or it has another checksum.
    """
    if name not in BY_NAME:
        raise DecurError(f"'{name}': no released file{did_you_mean(name, BY_NAME)}")
    entry = BY_NAME[name]
    known = f"sha256:{entry.sha256}"
    whole = known if len(entry.sha256) == DIGITS else None
    part = RemoteFile(name, (entry.url,), size=entry.size, checksum=whole)
    (stored,) = fetch_all([part], folder)
    if not stored.checksum.startswith(known):
        raise DecurError(
            f"{stored.path}: its checksum is {stored.checksum}, but that of the released file "
            f"begins with {known}; remove it and fetch it again"
        )
    return stored.path
