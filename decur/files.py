"""Files that are written whole or not at all, full disks that say so, and files read once."""

import functools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from decur.errors import DecurError

T = TypeVar("T")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failed write (disk full, quota, no permission) into a DecurError with the folder."""
    try:
        yield
    except OSError as error:
        raise DecurError(
            f"{folder}: cannot be written ({error.strerror or error}); make room or choose another "
            "folder and run again: what is whole is kept"
        ) from error


def write_all(file: BinaryIO, data: Any) -> None:
    """Write all bytes to an unbuffered file, which may take fewer at once.

    Unbuffered, so that closing it has nothing left to fail at.
    """
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary_path)`, then put the flushed file in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_folder_atomically(folder: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary_folder)`, then put that in the place of all that `folder` held."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with writing(folder):
            temporary.mkdir(parents=True)
            write(temporary)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_once(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """The same function of a file's content, which reads a file again only when it has changed."""
    found: dict[Path, tuple[tuple[int, ...], T]] = {}

    @functools.wraps(read)
    def remembered(path: Path) -> T:
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if path not in found or found[path][0] != stamp:
            found[path] = stamp, read(path)
        return found[path][1]

    return remembered
