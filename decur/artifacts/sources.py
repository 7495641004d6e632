"""Folders and files of a user that a dataset is made of: listings, links, digests."""

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from decur.artifacts.files import file_checksum
from decur.artifacts.ownership import HIDDEN
from decur.artifacts.paths import MANIFEST
from decur.errors import DecurError


def content(path: str) -> str | None:
    """A digest of a file, or of the names and sizes of all files below a folder.

    None where there is nothing, or a link leads nowhere.
    """
    try:
        if Path(path).is_dir():
            return contents(Path(path)).digest
        return file_checksum(Path(path))
    except OSError:
        return None


def check_links(raw: Path, *, deep: bool) -> None:
    """Check that the links in a raw folder lead somewhere, in its subfolders too if `deep`.

    Raises:
        DecurError: what a link leads to is not there: it was moved or removed.
    """
    for path in sorted(raw.rglob("*") if deep else raw.iterdir()):
        if path.is_symlink() and not path.exists():
            raise DecurError(
                f"{path}: leads to {path.readlink()}, which is not there; if it was moved, link it "
                f"anew: snakemake --forcerun {raw / MANIFEST}"
            )


class Contents(NamedTuple):
    """How many files there are, of how many bytes, and a short digest of their names and sizes."""

    files: int
    bytes: int
    digest: str


def contents(root: Path) -> Contents:
    """What a folder holds: all files in it and below but our own records.

    Links are followed. A manifest in the folder is ours. Memory is needed for the names of one
    folder only.

    Raises:
        OSError: a link leads nowhere.
    """
    count = size = 0
    digest = hashlib.sha256()
    for path, length in _files(root, ""):
        if path != MANIFEST:
            digest.update(f"{', ' if count else '['}{(path, length)!r}".encode())
            count, size = count + 1, size + length
    digest.update(b"]" if count else b"[]")
    return Contents(count, size, digest.hexdigest()[:16])


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """Relative path and size of all files, sorted by the names of folders and file."""
    for name in sorted(entry.name for entry in folder.iterdir()):
        status = (folder / name).stat()
        if not stat.S_ISDIR(status.st_mode):
            yield prefix + name, status.st_size
        elif name != HIDDEN:
            yield from _files(folder / name, f"{prefix}{name}/")
