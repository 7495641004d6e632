"""Check the size and checksum of fetched files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decur.datasets import RemoteFile
from decur.download.progress import ByteCounter
from decur.errors import DecurError

CHUNK = 1 << 20


class WrongError(Exception):
    """Report that the bytes are not those of the file and must be deleted."""


@dataclass(frozen=True)
class Stored:
    """Describe an existing, verified file; `checksum` and `urls` as in `RemoteFile`."""

    path: Path
    size: int
    checksum: str
    urls: tuple[str, ...]


def new_digest(part: RemoteFile) -> Any:
    """Return an empty hashlib digest of the algorithm of the part's checksum."""
    return hashlib.new((part.checksum or "sha256:").split(":")[0])


def hash_file(digest: Any, path: Path, name: str, counter: ByteCounter) -> int:
    """Add a file's bytes to a digest; returns their number.

    Raises:
        StoppedError: another part has failed.
    """
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            counter.at(name, size)
    return size


def verify(part: RemoteFile, path: Path, size: int, digest: Any, *, expected: int | None) -> Stored:
    """Compare a file's size and digest with the expected ones, as far as they are known.

    Args:
        part: the expected file.
        path: the present or future path of the file.
        size: its bytes.
        digest: their digest, started by `new_digest`.
        expected: the expected size.

    Raises:
        WrongError: the file is damaged or another file.
    """
    checksum = f"{digest.name}:{digest.hexdigest()}"
    if expected is not None and size != expected:
        raise WrongError(f"has {size} bytes, expected {expected}")
    if part.checksum is not None and checksum != part.checksum:
        raise WrongError(f"its checksum is {checksum}, expected {part.checksum}")
    return Stored(path, size, checksum, part.urls)


def check(part: RemoteFile, path: Path, counter: ByteCounter) -> Stored:
    """Check the size and checksum of a file that the user has, as far as they are known.

    Raises:
        DecurError: the file is damaged or another file.
        StoppedError: another part has failed.
    """
    digest = new_digest(part)
    size = hash_file(digest, path, part.name, counter)
    try:
        return verify(part, path, size, digest, expected=part.size)
    except WrongError as error:
        raise DecurError(f"{path}: {error}; fetch it again or remove it") from None
