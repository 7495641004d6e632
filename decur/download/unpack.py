"""Archives into a folder, safely and restartably.

`tarfile` and `zipfile` read, and `tarfile.data_filter` refuses what is no data. The rest is done
here. A member may only become a regular file below the folder: absolute paths, `..` and links that
stay inside are refused too, which the libraries would mend or follow. Each file is written under a
temporary name, closed and renamed, so that after a kill a file of the right size is whole and is
not written again. (After a power cut it may not be: delete the `.part` folder then.) A tar is read
as one stream over its parts, without a joined copy, and up to its end: `tarfile` alone takes an
archive that ends early, or that it cannot read further, for a complete one.
"""

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Self

from decur.artifacts.files import write_all, writing
from decur.datasets import Archive
from decur.download.progress import byte_bar
from decur.errors import DecurError

MOST_NAME = 1 << 16  # bytes of a member's name and other attributes
MOST_TIMES, SMALL = 50, 1 << 30
"""What is unpacked may take so many times the archive's bytes, or so many bytes."""

CHUNK = 1 << 20
NOWHERE = "/dev/null"
"""A destination for checks by name alone: to resolve the real path of each member, which has no
links, would take as long as to write a small file."""

BLOCK = 1 << 16  # tarfile copies what is left of one at every header
ATTRIBUTES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
"""Types of header that are followed by a name or other attributes of a member."""

DAMAGE = (
    EOFError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # a zip with a password
    ValueError,  # a name that no file can have
    gzip.BadGzipFile,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the libraries raise at an archive that they cannot read."""


def unpack(archive: Archive, files: Sequence[Path], root: Path) -> None:
    """Unpack an archive below the raw folder `root`, where a killed run may have left members.

    Args:
        archive: what it is and where its members go.
        files: its parts, in order.
        root: the folder.

    Raises:
        DecurError: a member that is refused, or an archive that is truncated or damaged.
    """
    root = root / archive.into
    name = files[0].name
    total = sum(file.stat().st_size for file in files)
    room = _Room(files[0], max(SMALL, MOST_TIMES * total))
    with byte_bar(f"unpack {name}", total) as bar:
        try:
            if archive.kind == "tar":
                _unpack_tar(files, archive, root, room, bar.update)
            elif archive.kind == "zip":
                _unpack_zip(files[0], archive, root, room, bar.update)
            else:
                with files[0].open("rb") as file:
                    _write(file, total, root / name)
        except DecurError:
            raise
        except DAMAGE as error:
            raise DecurError(
                f"{files[0]}: truncated or damaged ({error or type(error).__name__}); "
                "delete it and fetch it again"
            ) from error


class _Room:
    """How much an archive may still become: a small one can be made to fill a disk."""

    def __init__(self, file: Path, size: int) -> None:
        self._file, self._left = file, size

    def take(self, name: str, size: int) -> None:
        """Take account of a member, before it is written."""
        self._left -= size
        if self._left < 0:
            raise _refused(self._file, name, f"fills over {MOST_TIMES} times the archive's size")


def _unpack_tar(
    files: Sequence[Path],
    archive: Archive,
    root: Path,
    room: _Room,
    tell: Callable[[int], object],
) -> None:
    with gzip.GzipFile(fileobj=io.BufferedReader(_Joined(files, tell), CHUNK)) as unzipped:
        stream = _Watched(unzipped)
        # As a stream the tar is never sought backwards, which gzip could only do from its start.
        with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK, tarinfo=_Header) as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members.clear()  # tarfile keeps them all: gigabytes for millions of files
                target = _target(files[0], member.name, archive, root)
                _check_kind(files[0], member)
                room.take(member.name, member.size)
                if member.isfile() and target is not None and not _is_there(target, member.size):
                    source = tar.extractfile(member)
                    assert source is not None  # it is a regular file
                    _write(source, member.size, target)
            _read_to_end(stream, tar.offset)


def _check_kind(file: Path, member: tarfile.TarInfo) -> None:
    """Refuse whatever tarfile would not unpack as data, and all links."""
    if member.issym() or member.islnk():
        raise _refused(file, member.name, "is a link")
    try:
        tarfile.data_filter(member, NOWHERE)
    except tarfile.FilterError as error:
        raise _refused(file, member.name, f"is unsafe ({error})") from None


def _read_to_end(stream: "_Watched", end: int) -> None:
    """Read what follows the last member, so that gzip checks its sum and nothing stays unread.

    Raises:
        EOFError, ReadError: the tar ends before its end mark, or goes on after it.
    """
    while stream.read(CHUNK):
        pass
    if stream.position < end + tarfile.BLOCKSIZE:
        raise EOFError("the tar has no end mark")
    if stream.last_data > end:
        raise tarfile.ReadError(f"unreadable header at byte {end} of the tar")


def _unpack_zip(
    file: Path, archive: Archive, root: Path, room: _Room, tell: Callable[[int], object]
) -> None:
    with zipfile.ZipFile(file) as zipped:
        for member in zipped.infolist():
            tell(member.compress_size)
            target = _target(file, member.filename, archive, root)
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the packer was no Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(file, member.filename, "is a link, device or other special")
            room.take(member.filename, member.file_size)
            if member.is_dir() or target is None or _is_there(target, member.file_size):
                continue
            with zipped.open(member) as source:
                _write(source, member.file_size, target)


def _target(file: Path, name: str, archive: Archive, root: Path) -> Path | None:
    """Where a member goes; None for the folders that are stripped."""
    path = PurePosixPath(name)
    if path.is_absolute():
        raise _refused(file, name, "has an absolute path")
    if ".." in path.parts or "\\" in name:
        raise _refused(file, name, "leads out of its folder")
    kept = path.parts[archive.strip :]
    return root.joinpath(*kept) if kept else None


def _refused(file: Path, name: str, reason: str) -> DecurError:
    return DecurError(
        f"{file}: member {name!r} {reason}, which no data set needs; do not trust this archive"
    )


def _is_there(target: Path, size: int) -> bool:
    return target.is_file() and target.stat().st_size == size


def _write(source: IO[bytes], size: int, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.part")
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb", buffering=0)
    with file:
        while chunk := source.read(CHUNK):
            with writing(target.parent):  # not while reading, whose errors are the archive's
                write_all(file, chunk)
        written = file.tell()
    if written != size:
        raise EOFError(f"{target.name} has {written} bytes, expected {size}")
    temporary.replace(target)


class _Header(tarfile.TarInfo):
    """A header of a tar; not one that has tarfile read gigabytes of attributes, or of holes."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> Self:  # type: ignore[override]
        """Parse 512 bytes."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in ATTRIBUTES and header.size > MOST_NAME:
            raise tarfile.ReadError(f"attributes of {header.size} bytes")
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a file with holes")
        return header


class _Joined(io.RawIOBase):
    """The parts of an archive as one file to read."""

    def __init__(self, files: Sequence[Path], tell: Callable[[int], object]) -> None:
        self._rest = iter(files)
        self._file: IO[bytes] | None = None
        self._tell = tell

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        while self._file is not None or self._open_next():
            assert self._file is not None
            count: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
            if count:
                self._tell(count)
                return count
            self._file.close()
            self._file = None
        return 0

    def _open_next(self) -> bool:
        path = next(self._rest, None)
        self._file = None if path is None else path.open("rb", buffering=0)
        return path is not None


class _Watched:
    """A stream that knows how far it was read, and where its last byte that is not zero lies."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self.position = self.last_data = 0

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        data = chunk.rstrip(b"\0")
        if data:
            self.last_data = self.position + len(data)
        self.position += len(chunk)
        return chunk
