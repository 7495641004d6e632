"""Read the members of an archive one after the other, safely and completely.

`tarfile` and `zipfile` do the reading, and `tarfile.data_filter` refuses special files. This module
adds the following. A member must be a regular file below the raw folder: absolute paths, `..` and
harmless links are refused too, which the libraries would repair or follow. A tar is read as one
stream over its parts, without a joined copy, and to its end: `tarfile` alone accepts an archive
that is truncated or partly unreadable as complete. Both libraries keep all metadata of every
member; here it is dropped, or kept in a temporary file.
"""

import io
import pickle
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, cast

from isal import igzip_lib, isal_zlib

from decur.datasets import Archive
from decur.errors import DecurError

MOST_NAME = 1 << 16  # bytes of a member's name and other attributes
MOST_TIMES, SMALL = 50, 1 << 30
"""An archive may unpack to this many times its bytes, or to this many bytes if that is more."""

CHUNK, PACKED = 1 << 20, 1 << 17
NOWHERE = "/dev/null"
"""Destination for checks of names only. Resolving the real path of each member, which has no links,
would take as long as writing a small file."""

BLOCK = 1 << 16  # tarfile copies the rest of a block at every header
ATTRIBUTES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
"""Header types that are followed by a name or other attributes of a member."""

DAMAGE: tuple[type[Exception], ...] = (  # type: ignore[assignment]  # IsalError is declared wrongly
    EOFError,
    NotImplementedError,  # a compression that zipfile does not support
    RuntimeError,  # a zip with a password
    ValueError,  # an impossible file name
    tarfile.TarError,
    zipfile.BadZipFile,
    igzip_lib.IsalError,
    zlib.error,  # raised by zipfile
)
"""Exceptions that the libraries raise for an archive that they cannot read."""


class DamagedError(DecurError):
    """Report a truncated or damaged archive: nothing that was read from it may be trusted."""


class Member(NamedTuple):
    """Describe a regular file in an archive: path below the raw folder, size, and how to open it.

    The path is a string, because creating millions of Path objects takes longer than reading the
    headers. `open` must be called before the next member is requested, if at all.
    """

    path: str
    size: int
    open: Callable[[], IO[bytes]]


def members(
    archive: Archive, files: Sequence[Path], tell: Callable[[int], object] = lambda count: None
) -> Iterator[Member]:
    """Iterate over the files in an archive, in its order; use it inside `naming_damage`.

    Args:
        archive: the archive's kind and destination.
        files: its parts, in order.
        tell: called with the number of bytes of the archive read since the last call.

    Raises:
        DecurError: a member is refused.
    """
    total = sum(file.stat().st_size for file in files)
    room = _Room(files[0], max(SMALL, MOST_TIMES * total))
    if archive.kind == "file":
        path = "/".join(filter(None, (archive.into, files[0].name)))
        yield Member(path, total, lambda: files[0].open("rb"))
        return
    read = {"tar": _tar_members, "zip": _zip_members}[archive.kind]
    for name, size, is_file, opener in read(files, tell):
        inside = _inside(files[0], name, archive)
        room.take(name, size)
        if is_file and inside is not None:
            yield Member(inside, size, opener)


@contextmanager
def naming_damage(file: Path) -> Iterator[None]:
    """Turn a library's error about an unreadable archive into one that names the archive.

    Raises:
        DamagedError: the archive is truncated or damaged.
    """
    try:
        yield
    except DecurError:
        raise
    except DAMAGE as error:
        raise DamagedError(
            f"{file}: truncated or damaged ({error or type(error).__name__}); "
            "delete it and fetch it again"
        ) from error


class _Room:
    """Limit the unpacked size of an archive, because a small archive can be made to fill a disk."""

    def __init__(self, file: Path, size: int) -> None:
        self._file, self._left = file, size

    def take(self, name: str, size: int) -> None:
        """Count a member, before it is written."""
        self._left -= size
        if self._left < 0:
            raise _refused(self._file, name, f"fills over {MOST_TIMES} times the archive's size")


_Found = tuple[str, int, bool, Callable[[], IO[bytes]]]
"""Name, size, whether it is a regular file, and a function that opens it."""


def _tar_members(files: Sequence[Path], tell: Callable[[int], object]) -> Iterator[_Found]:
    stream = _Watched(_Unzipped(io.BufferedReader(_Joined(files, tell), CHUNK)))
    # Streaming mode never seeks backwards, which gzip can only do by starting over.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK, tarinfo=_Header) as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            tar.members.clear()  # tarfile keeps all of them: gigabytes for millions of files
            _check_kind(files[0], member)
            opener = cast("Callable[[], IO[bytes]]", partial(_TarMember, tar.fileobj, member))
            yield member.name, member.size, member.isfile(), opener
        _read_to_end(stream, tar.offset)


class _TarMember(io.RawIOBase):
    """Read a member of a streamed tar, with a fifth of the calls of `tarfile.extractfile`."""

    def __init__(self, stream: Any, member: tarfile.TarInfo) -> None:
        super().__init__()
        stream.seek(member.offset_data)
        self._stream, self._left = stream, member.size

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, or all that remain.

        Raises:
            ReadError: the tar is truncated.
        """
        wanted = self._left if size < 0 else min(size, self._left)
        data: bytes = self._stream.read(wanted)
        if len(data) < wanted:
            raise tarfile.ReadError("unexpected end of data")
        self._left -= wanted
        return data


def _check_kind(file: Path, member: tarfile.TarInfo) -> None:
    """Refuse links, and everything else that tarfile does not unpack as data.

    For files and folders only the name matters; `_inside` checks it in a tenth of the time.
    """
    if member.isreg() or member.isdir():
        return
    if member.issym() or member.islnk():
        raise _refused(file, member.name, "is a link")
    try:
        tarfile.data_filter(member, NOWHERE)
    except tarfile.FilterError as error:
        raise _refused(file, member.name, f"is unsafe ({error})") from None


def _read_to_end(stream: "_Watched", end: int) -> None:
    """Read what follows the last member, so that gzip verifies its checksum and nothing is skipped.

    Raises:
        EOFError, ReadError: the tar ends before its end mark, or has data after it.
    """
    while stream.read(CHUNK):
        pass
    if stream.position < end + tarfile.BLOCKSIZE:
        raise EOFError("the tar has no end mark")
    if stream.last_data > end:
        raise tarfile.ReadError(f"unreadable header at byte {end} of the tar")


def _zip_members(files: Sequence[Path], tell: Callable[[int], object]) -> Iterator[_Found]:
    with tempfile.TemporaryFile() as table, _Zip(files[0], table) as zipped:
        table.seek(0)
        for _ in range(zipped.count):
            member = pickle.load(table)  # safe: written above
            tell(member.compress_size)
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if it was not packed on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(files[0], member.filename, "is a link, device or other special")
            opener = partial(zipped.open, member)
            yield member.filename, member.file_size, not member.is_dir(), opener


class _Zip(zipfile.ZipFile):
    """Open a zip whose `count` members are written to `table` and not kept in memory."""

    def __init__(self, file: Path, table: IO[bytes]) -> None:
        self._table, self.count = table, 0
        super().__init__(file)

    @property
    def filelist(self) -> list[zipfile.ZipInfo]:
        """Return the list to which `zipfile` appends each member; it stays empty."""
        return _Passed(self._pass_on)

    @filelist.setter
    def filelist(self, value: object) -> None: ...

    def _pass_on(self, member: zipfile.ZipInfo) -> None:
        pickle.dump(member, self._table)
        self.count += 1
        self.NameToInfo.clear()


class _Passed(list[zipfile.ZipInfo]):
    """Pass on what is appended, and stay empty."""

    def __init__(self, pass_on: Callable[[zipfile.ZipInfo], object]) -> None:
        super().__init__()
        self._pass_on = pass_on

    def append(self, member: zipfile.ZipInfo) -> None:
        """Pass on one more member."""
        self._pass_on(member)


def _inside(file: Path, name: str, archive: Archive) -> str | None:
    """Return a member's path below the raw folder; None for the folders that are stripped."""
    if name.startswith("/"):
        raise _refused(file, name, "has an absolute path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\\" in name:
        raise _refused(file, name, "leads out of its folder")
    kept = parts[archive.strip :]
    return "/".join((archive.into, *kept) if archive.into else kept) if kept else None


def _refused(file: Path, name: str, reason: str) -> DecurError:
    return DecurError(
        f"{file}: member {name!r} {reason}, which no dataset needs; do not trust this archive"
    )


class _Header(tarfile.TarInfo):
    """Parse a tar header, and refuse gigabytes of attributes and sparse files."""

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
    """Read the parts of an archive as one file."""

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


class _Unzipped:
    """Decompress gzip data and verify its checksum at the end.

    ISA-L takes little more than half the time of zlib, and decompression dominates reading.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packed = b""
        self._unzip: Any = None

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; none at the end.

        Raises:
            EOFError: the data end before their end mark.
            IsalError: the data are damaged.
        """
        while True:
            self._packed = self._packed or self._file.read(PACKED)
            if self._unzip is None:  # at the start, or after an end mark, which zeros may follow
                ended, self._packed = not self._packed, self._packed.lstrip(b"\0")
                if ended:
                    return b""
                if not self._packed:
                    continue
                self._unzip = isal_zlib.decompressobj(zlib.MAX_WBITS | 16)
            if not self._packed:
                raise EOFError("the archive ends before its end mark")
            data: bytes = self._unzip.decompress(self._packed, size)
            self._packed = self._unzip.unconsumed_tail
            if self._unzip.eof:
                self._packed, self._unzip = self._unzip.unused_data, None
            if data:
                return data


class _Watched:
    """Track how far a stream was read, and the position of its last non-zero byte."""

    def __init__(self, file: _Unzipped) -> None:
        self._file = file
        self.position = self.last_data = 0

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        data = chunk.rstrip(b"\0")
        if data:
            self.last_data = self.position + len(data)
        self.position += len(chunk)
        return chunk
