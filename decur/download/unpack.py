"""Unpack archives into a folder, in a way that can be restarted.

Each file is written under a temporary name, closed and renamed. So after a kill, a file of the
right size is complete and is not written again. (After a power cut it may be incomplete: delete the
`.part` folder then.)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from decur.artifacts.files import write_all, writing
from decur.cluster.progress import byte_bar
from decur.datasets import Archive
from decur.datasets.members import CHUNK, members, naming_damage


def unpack(archive: Archive, files: Sequence[Path], root: Path) -> None:
    """Unpack an archive below the raw folder `root`; members left by a killed run are kept.

    Args:
        archive: the archive's kind and destination.
        files: its parts, in order.
        root: the folder.

    Raises:
        DecurError: a member is refused, or the archive is truncated or damaged.
    """
    total = sum(file.stat().st_size for file in files)
    with byte_bar(f"unpack {files[0].name}", total) as bar, naming_damage(files[0]):
        for member in members(archive, files, bar.update):
            target = root / member.path
            if not _is_there(target, member.size):
                with member.open() as source:
                    _write(source, member.size, target)


def _is_there(target: Path, size: int) -> bool:
    return target.is_file() and target.stat().st_size == size


def _write(source: IO[bytes], size: int, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.part")
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb", buffering=0)
    with file:
        while chunk := source.read(CHUNK):
            with writing(target.parent):  # excludes reading, whose errors are the archive's
                write_all(file, chunk)
        written = file.tell()
    if written != size:
        raise EOFError(f"{target.name} has {written} bytes, expected {size}")
    temporary.replace(target)
