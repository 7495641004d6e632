"""Folders and files of a user that a dataset is made of: listings, links, digests."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

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
            return listing_digest(listing(Path(path)))
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


def listing(root: Path) -> list[tuple[str, int]]:
    """Relative path and size in bytes of all files below a folder but our own records, sorted.

    Links are followed. A manifest in the folder is ours.

    Raises:
        OSError: a link leads nowhere.
    """
    found = []
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = [name for name in below if name != HIDDEN]
        for path in (Path(folder) / name for name in names):
            relative = path.relative_to(root).as_posix()
            if relative != MANIFEST:
                found.append((relative, path.stat().st_size))
    return sorted(found, key=lambda file: file[0].split("/"))


def listing_digest(files: Iterable[tuple[str, int]]) -> str:
    """A short digest of names and sizes."""
    return hashlib.sha256(repr(list(files)).encode()).hexdigest()[:16]
