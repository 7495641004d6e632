"""Write files atomically, name full disks in errors, and read files in spite of I/O errors."""

import errno
import functools
import glob
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from decur.cluster.machine import is_running, machine_digest
from decur.errors import DecurError

T = TypeVar("T")

PAUSES = (1.0, 5.0, 15.0)
"""Seconds between two attempts to read a file that a file system fails to give."""

FINAL = (
    *(errno.ENOENT, errno.EACCES, errno.EPERM),
    *(errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EMFILE),
)
"""Errors that waiting does not mend."""

DAY = 86_400
TEMPORARY = re.compile(r"\.(?P<machine>[0-9a-f]{8})-(?P<pid>[0-9]+)\.decur$")


class UnreadableError(DecurError):
    """The file system does not give a file, whose content may be whole."""


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


def write_atomically(
    path: Path, write: Callable[[Path], object], *, before: Callable[[Path], object] | None = None
) -> None:
    """Call `write(temporary_path)`, then put the flushed file in place in one step.

    The file gets the permissions that the umask gives, whatever `write` chose. `before` is called
    with the whole temporary file just before it takes its place. Temporary files that killed
    writers of the same file left behind are removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(path)
    temporary = temporary_of(path)
    try:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        write(temporary)
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if before is not None:
            before(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def link_atomically(source: Path, path: Path) -> None:
    """Make `path` a hard link of a file in one step, in place of whatever file was there.

    Raises:
        OSError: the file system has no hard links, or none between these folders.
    """

    def link(temporary: Path) -> None:
        temporary.unlink()
        temporary.hardlink_to(source)

    write_atomically(path, link)


def temporary_of(path: Path) -> Path:
    """Name the temporary file in which this process writes `path`."""
    return path.with_name(f".{path.name}.{machine_digest()}-{os.getpid()}.decur")


def remove_left_over(path: Path) -> None:
    """Remove the temporary files and folders that killed writers of `path` left behind.

    Those of processes that still run are kept. Of other machines that cannot be known; theirs are
    removed when they have not changed for a day.
    """
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.decur"):
        if _is_left_over(other):
            remove(other)


def remove_temporaries(folder: Path) -> None:
    """Remove all temporary files in a folder in which nobody else writes, whoever left them."""
    for path in folder.glob(".*.decur"):
        if TEMPORARY.search(path.name):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that it holds; links are not followed.

    Another process may do the same at the same time.
    """
    while path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue
    path.unlink(missing_ok=True)


def _is_left_over(path: Path) -> bool:
    found = TEMPORARY.search(path.name)
    if found is None:
        return False
    if found["machine"] == machine_digest():
        return not is_running(int(found["pid"]))
    try:
        return time.time() - path.stat().st_mtime > DAY
    except OSError:  # removed meanwhile
        return False


def nearest_folder(path: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def checksum(data: bytes) -> str:
    """Return `sha256:` and the digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def file_checksum(path: Path) -> str:
    """Return `sha256:` and the digest of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def read_patiently(path: Path, read: Callable[[Path], T]) -> T:
    """Return `read(path)`; try again where the file system fails for a moment.

    An I/O error says nothing about the content, so it must not pass for damage.

    Raises:
        UnreadableError: the file system keeps failing. Whatever else `read` raises is passed on, as
            are errors that libraries raise as OSError without an error number.
    """
    for pause in (*PAUSES, None):
        try:
            return read(path)
        except OSError as error:
            if error.errno is None:
                raise
            if pause is None or error.errno in FINAL:
                raise UnreadableError(
                    f"{path}: cannot be read ({error.strerror}); {_remedy(error)}"
                ) from error
            time.sleep(pause)
    raise AssertionError("unreachable")


def check_readable(path: Path) -> None:
    """Find out whether the file system gives a file that could not be used; a missing one passes.

    Raises:
        UnreadableError: it does not, so the file may be whole.
    """
    try:
        read_patiently(path, _read_through)
    except UnreadableError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise


def _read_through(path: Path) -> None:
    if path.is_dir():
        return
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (`ulimit -n`) and run again"
    return "that is no damage of its content: check the file system and run again"


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
