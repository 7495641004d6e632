"""List, check and fingerprint the user's folders and files from which a dataset is made."""

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
    """Return a digest of a file, or of the names and sizes of all files below a folder.

    Return None if the path does not exist or contains a broken link.
    """
    try:
        if Path(path).is_dir():
            return contents(Path(path)).digest
        return file_checksum(Path(path))
    except OSError:
        return None


def check_links(raw: Path, *, deep: bool) -> None:
    """Check that no link in a raw folder is broken, including its subfolders if `deep`.

    Raises:
        DecurError: the target of a link was moved or removed.
    """
    for path in sorted(raw.rglob("*") if deep else raw.iterdir()):
        if path.is_symlink() and not path.exists():
            raise DecurError(
                f"{path}: links to {path.readlink()}, which does not exist; if it was moved, "
                f"renew the link: snakemake --forcerun {raw / MANIFEST}"
            )


class Contents(NamedTuple):
    """Number of files, their size in bytes, and a short digest of their names and sizes."""

    files: int
    bytes: int
    digest: str


def contents(root: Path) -> Contents:
    """Count and fingerprint all files in and below a folder, except the records of decur.

    Links are followed. A manifest in the folder is a record of decur. Only the names of one folder
    at a time are kept in memory.

    Raises:
        OSError: a link is broken.
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
    """Yield the relative path and size of all files, sorted by the names of folders and files."""
    for name in sorted(entry.name for entry in folder.iterdir()):
        status = (folder / name).stat()
        if not stat.S_ISDIR(status.st_mode):
            yield prefix + name, status.st_size
        elif name != HIDDEN:
            yield from _files(folder / name, f"{prefix}{name}/")
