"""The members of an archive, one after the other, read safely and to the end.

`tarfile` and `zipfile` read, and `tarfile.data_filter` refuses what is no data. The rest is done
here. A member may only become a regular file below the raw folder: absolute paths, `..` and links
that stay inside are refused too, which the libraries would mend or follow. A tar is read as one
stream over its parts, without a joined copy, and up to its end: `tarfile` alone takes an archive
that ends early, or that it cannot read further, for a complete one. Both libraries keep all that
they know of every member; here it is dropped, or lies in a temporary file.
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
"""What is unpacked may take so many times the archive's bytes, or so many bytes."""

CHUNK, PACKED = 1 << 20, 1 << 17
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

DAMAGE: tuple[type[Exception], ...] = (  # type: ignore[assignment]  # IsalError is declared wrongly
    EOFError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # a zip with a password
    ValueError,  # a name that no file can have
    tarfile.TarError,
    zipfile.BadZipFile,
    igzip_lib.IsalError,
    zlib.error,  # zipfile's own
)
"""What the libraries raise at an archive that they cannot read."""


class DamagedError(DecurError):
    """An archive is truncated or damaged: nothing that was read of it may be trusted."""


class Member(NamedTuple):
    """A regular file in an archive: its path below the raw folder, its bytes, and how to read it.

    The path is text: to make a Path of each of millions takes longer than to read a header. `open`
    must be called, if at all, before the next member is asked for.
    """

    path: str
    size: int
    open: Callable[[], IO[bytes]]


def members(
    archive: Archive, files: Sequence[Path], tell: Callable[[int], object] = lambda count: None
) -> Iterator[Member]:
    """The files in an archive, in its order; to be read in `naming_damage`.

    Args:
        archive: what it is and where its members go.
        files: its parts, in order.
        tell: told how many more bytes of the archive were read.

    Raises:
        DecurError: a member that is refused.
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
    """Name the archive where a library cannot read it.

    Raises:
        DamagedError: it is truncated or damaged.
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
    """How much an archive may still become: a small one can be made to fill a disk."""

    def __init__(self, file: Path, size: int) -> None:
        self._file, self._left = file, size

    def take(self, name: str, size: int) -> None:
        """Take account of a member, before it is written."""
        self._left -= size
        if self._left < 0:
            raise _refused(self._file, name, f"fills over {MOST_TIMES} times the archive's size")


_Found = tuple[str, int, bool, Callable[[], IO[bytes]]]
"""Name, size, whether it is a regular file, and how it is opened."""


def _tar_members(files: Sequence[Path], tell: Callable[[int], object]) -> Iterator[_Found]:
    stream = _Watched(_Unzipped(io.BufferedReader(_Joined(files, tell), CHUNK)))
    # As a stream the tar is never sought backwards, which gzip could only do from its start.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK, tarinfo=_Header) as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            tar.members.clear()  # tarfile keeps them all: gigabytes for millions of files
            _check_kind(files[0], member)
            opener = cast("Callable[[], IO[bytes]]", partial(_TarMember, tar.fileobj, member))
            yield member.name, member.size, member.isfile(), opener
        _read_to_end(stream, tar.offset)


class _TarMember(io.RawIOBase):
    """A member of a tar that is read as a stream: a fifth of the calls of `tarfile.extractfile`."""

    def __init__(self, stream: Any, member: tarfile.TarInfo) -> None:
        super().__init__()
        stream.seek(member.offset_data)
        self._stream, self._left = stream, member.size

    def read(self, size: int = -1) -> bytes:
        """Give so many bytes, or all, as far as there are any.

        Raises:
            ReadError: the tar ends before.
        """
        wanted = self._left if size < 0 else min(size, self._left)
        data: bytes = self._stream.read(wanted)
        if len(data) < wanted:
            raise tarfile.ReadError("unexpected end of data")
        self._left -= wanted
        return data


def _check_kind(file: Path, member: tarfile.TarInfo) -> None:
    """Refuse whatever tarfile would not unpack as data, and all links.

    Only the name of a file or folder matters; `_inside` checks that in a tenth of the time.
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


def _zip_members(files: Sequence[Path], tell: Callable[[int], object]) -> Iterator[_Found]:
    with tempfile.TemporaryFile() as table, _Zip(files[0], table) as zipped:
        table.seek(0)
        for _ in range(zipped.count):
            member = pickle.load(table)  # which was written above
            tell(member.compress_size)
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the packer was no Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(files[0], member.filename, "is a link, device or other special")
            opener = partial(zipped.open, member)
            yield member.filename, member.file_size, not member.is_dir(), opener


class _Zip(zipfile.ZipFile):
    """A zip whose members are written to `table`, `count` of them, and not kept in memory."""

    def __init__(self, file: Path, table: IO[bytes]) -> None:
        self._table, self.count = table, 0
        super().__init__(file)

    @property
    def filelist(self) -> list[zipfile.ZipInfo]:
        """What `zipfile` appends each member to, and what it finds there."""
        return _Passed(self._pass_on)

    @filelist.setter
    def filelist(self, value: object) -> None: ...

    def _pass_on(self, member: zipfile.ZipInfo) -> None:
        pickle.dump(member, self._table)
        self.count += 1
        self.NameToInfo.clear()


class _Passed(list[zipfile.ZipInfo]):
    """A list that stays empty: what is appended is passed on."""

    def __init__(self, pass_on: Callable[[zipfile.ZipInfo], object]) -> None:
        super().__init__()
        self._pass_on = pass_on

    def append(self, member: zipfile.ZipInfo) -> None:
        """Take one more member."""
        self._pass_on(member)


def _inside(file: Path, name: str, archive: Archive) -> str | None:
    """Where a member goes below the raw folder; None for the folders that are stripped."""
    if name.startswith("/"):
        raise _refused(file, name, "has an absolute path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\\" in name:
        raise _refused(file, name, "leads out of its folder")
    kept = parts[archive.strip :]
    return "/".join((archive.into, *kept) if archive.into else kept) if kept else None


def _refused(file: Path, name: str, reason: str) -> DecurError:
    return DecurError(
        f"{file}: member {name!r} {reason}, which no data set needs; do not trust this archive"
    )


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


class _Unzipped:
    """Gzipped bytes, unzipped; their sum is checked at the end.

    ISA-L takes little over half of the time of zlib, and most of reading an archive is this.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packed = b""
        self._unzip: Any = None

    def read(self, size: int) -> bytes:
        """Give at most `size` bytes, none at the end.

        Raises:
            EOFError: it ends before its end mark.
            IsalError: it is damaged.
        """
        while True:
            self._packed = self._packed or self._file.read(PACKED)
            if self._unzip is None:  # at the begin, or after an end mark, which zeros may follow
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
    """A stream that knows how far it was read, and where its last byte that is not zero lies."""

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
