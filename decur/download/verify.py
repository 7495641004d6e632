"""Sizes and checksums: whether a file is the part that it should be."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decur.datasets import Part
from decur.download.progress import ByteCounter
from decur.errors import DecurError

CHUNK = 1 << 20


class WrongError(Exception):
    """The bytes are not those of the file: throw them away."""


@dataclass(frozen=True)
class Stored:
    """A file that is there and right; `checksum` and `urls` as in `Part`."""

    path: Path
    size: int
    checksum: str
    urls: tuple[str, ...]


def new_digest(part: Part) -> Any:
    """Return an empty digest (of hashlib) of the kind that the part's checksum is of."""
    return hashlib.new((part.checksum or "sha256:").split(":")[0])


def hash_file(digest: Any, path: Path, name: str, counter: ByteCounter) -> int:
    """Add a file's bytes to a digest; returns how many.

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


def verify(part: Part, path: Path, size: int, digest: Any, *, expected: int | None) -> Stored:
    """Compare a file's size and digest with what is expected, as far as that is known.

    Args:
        part: what the file should be.
        path: where the file lies, or will.
        size: its bytes.
        digest: their digest, as `new_digest` begins one.
        expected: the size that it should have.

    Raises:
        WrongError: it is another file, or damaged.
    """
    checksum = f"{digest.name}:{digest.hexdigest()}"
    if expected is not None and size != expected:
        raise WrongError(f"has {size} bytes, expected {expected}")
    if part.checksum is not None and checksum != part.checksum:
        raise WrongError(f"its checksum is {checksum}, expected {part.checksum}")
    return Stored(path, size, checksum, part.urls)


def check(part: Part, path: Path, counter: ByteCounter) -> Stored:
    """Check a file that the user has: its size and checksum, as far as they are known.

    Raises:
        DecurError: it is another file, or damaged.
        StoppedError: another part has failed.
    """
    digest = new_digest(part)
    size = hash_file(digest, path, part.name, counter)
    try:
        return verify(part, path, size, digest, expected=part.size)
    except WrongError as error:
        raise DecurError(f"{path}: {error}; fetch it again, or remove it") from None
