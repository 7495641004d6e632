"""Write files atomically, report full disks, and retry reads after transient I/O errors."""

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
"""Seconds between two attempts to read a file after an I/O error."""

FINAL = (
    *(errno.ENOENT, errno.EACCES, errno.EPERM),
    *(errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EMFILE),
)
"""Error numbers for which retrying is pointless."""

DAY = 86_400
TEMPORARY = re.compile(r"\.(?P<machine>[0-9a-f]{8})-(?P<pid>[0-9]+)\.decur$")


class UnreadableError(DecurError):
    """Report that a file cannot be read, although its content may be intact."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failed write (disk full, quota, no permission) into a DecurError with the folder."""
    try:
        yield
    except OSError as error:
        raise DecurError(
            f"{folder}: cannot be written ({error.strerror or error}); free some space or choose "
            "another folder, and run again: complete files are kept"
        ) from error


def write_all(file: BinaryIO, data: Any) -> None:
    """Write all bytes to an unbuffered file, whose `write` may accept only some of them.

    The file is unbuffered, so that closing it writes nothing and cannot fail.
    """
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


def write_atomically(
    path: Path, write: Callable[[Path], object], *, before: Callable[[Path], object] | None = None
) -> None:
    """Call `write(temporary_path)`, then flush the file and rename it to `path`.

    The permissions follow the umask, even if `write` sets others. `before` is called with the
    complete temporary file just before the rename. Temporary files that killed writers of the same
    file left behind are removed first.
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
    """Make `path` a hard link to a file, atomically; replace an existing file.

    Raises:
        OSError: the file system has no hard links, or none between these folders.
    """

    def link(temporary: Path) -> None:
        temporary.unlink()
        temporary.hardlink_to(source)

    write_atomically(path, link)


def temporary_of(path: Path) -> Path:
    """Return the path of the temporary file that this process uses to write `path`."""
    return path.with_name(f".{path.name}.{machine_digest()}-{os.getpid()}.decur")


def remove_left_over(path: Path) -> None:
    """Remove the temporary files and folders that killed writers of `path` left behind.

    Files of processes that still run are kept. Processes of other machines cannot be checked; their
    files are removed if they have not changed for a day.
    """
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.decur"):
        if _is_left_over(other):
            remove(other)


def remove_temporaries(folder: Path) -> None:
    """Remove all temporary files in a folder; no other process may be writing there."""
    for path in folder.glob(".*.decur"):
        if TEMPORARY.search(path.name):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content; links are not followed.

    Another process may remove the same path at the same time.
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
    except OSError:  # another process has removed it meanwhile
        return False


def nearest_folder(path: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def checksum(data: bytes) -> str:
    """Return the checksum of some bytes, as `sha256:` and the digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def file_checksum(path: Path) -> str:
    """Return the checksum of a file, as `sha256:` and the digest."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def read_patiently(path: Path, read: Callable[[Path], T]) -> T:
    """Return `read(path)`; try again after transient I/O errors.

    An I/O error does not mean that the content is damaged, so the two must not be confused.

    Raises:
        UnreadableError: the I/O error persists. All other errors of `read` are passed on, including
            OSErrors without an error number, which some libraries raise.
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
    """Check that a file can be read, after using it has failed; a missing file passes.

    Raises:
        UnreadableError: the file cannot be read, so its content may be intact.
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
    return "the content may be intact: check the file system and run again"


def read_once(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Cache a function of a file's content; a file is read again only after it has changed."""
    found: dict[Path, tuple[tuple[int, ...], T]] = {}

    @functools.wraps(read)
    def remembered(path: Path) -> T:
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if path not in found or found[path][0] != stamp:
            found[path] = stamp, read(path)
        return found[path][1]

    return remembered
