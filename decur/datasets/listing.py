"""A table of the files in archives that are not unpacked, so that a dataset can be scanned.

It is a SQLite file of one row per folder, or of several where its files are many or do not come
together: of millions of files nothing is kept in memory. Only one process writes it, and it has its
name only when it is whole, so SQLite need not lock it, which some file systems of clusters cannot.
"""

import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from decur.errors import DecurError

LISTING = "members.sqlite"
"""Name of the table in a raw folder."""

TABLES = """
CREATE TABLE IF NOT EXISTS archives
  (number INTEGER PRIMARY KEY, name TEXT, files INTEGER, bytes INTEGER, example BLOB);
CREATE TABLE IF NOT EXISTS folders
  (path TEXT, archive INTEGER, row INTEGER, files BLOB, PRIMARY KEY (path, archive, row))
  WITHOUT ROWID;
"""

EXAMPLE = 1 << 15  # bytes, of which zlib looks at no more

OWN = "\0"  # which JSON cannot hold

MOST = 1000
"""Names of files in a row."""

RECENT = 64
"""How many folders a reader remembers: it is asked for each file of a folder, one after another."""


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a SQLite file that no other process writes.

    Raises:
        DecurError: it cannot be read.
    """
    mode = "rwc" if write else "ro"
    try:
        base = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}&nolock=1", uri=True)
        base.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise unreadable(path, error) from error
    return base


def unreadable(path: Path, error: sqlite3.Error) -> DecurError:
    """The error of a table that SQLite cannot read or write."""
    return DecurError(f"{path}: {error}; if the disk is not full, delete the file and run again")


@contextmanager
def transaction(base: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Changes to a table, all or, after an error or a kill, none.

    Raises:
        DecurError: they cannot be made.
    """
    try:
        with base:
            yield
    except sqlite3.Error as error:
        raise unreadable(path, error) from error


@dataclass
class Files:
    """Files in a folder: how often each name comes, and what was kept of some."""

    names: Counter[str] = field(default_factory=Counter)
    contents: dict[str, bytes] = field(default_factory=dict)

    def text(self, folder: str) -> bytes:
        """As JSON in which the folder's own name, which many files begin with, is a zero byte."""
        contents = {name: content.decode("latin-1") for name, content in self.contents.items()}
        text = json.dumps([sorted(self.names.elements()), contents])
        return text.replace(PurePosixPath(folder).name or OWN, OWN).encode()

    @classmethod
    def of(cls, text: bytes, folder: str) -> "Files":
        """Parse what `text` wrote of this folder."""
        tree = text.decode().replace(OWN, PurePosixPath(folder).name)
        names, contents = json.loads(tree)
        return cls(
            Counter(names), {name: kept.encode("latin-1") for name, kept in contents.items()}
        )


def _pack(text: bytes, example: bytes) -> bytes:
    """A text in few bytes: the fewer, the more it is like the example."""
    packing = zlib.compressobj(1, wbits=-zlib.MAX_WBITS, zdict=example)
    return packing.compress(text) + packing.flush()


def _unpack(packed: bytes, example: bytes) -> bytes:
    return zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=example).decompress(packed)


class ListingWriter:
    """A table that is being written; archives that are in it already need not be read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._base = connect(path, write=True)
        self._base.executescript(TABLES)

    def __enter__(self) -> "ListingWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._base.close()

    @property
    def archives(self) -> dict[str, tuple[int, int]]:
        """How many files each archive in the table holds, and of how many bytes."""
        rows = self._base.execute("SELECT name, files, bytes FROM archives")
        return {name: (files, size) for name, files, size in rows}

    @contextmanager
    def archive(self, name: str) -> Iterator["_Archive"]:
        """Add the members of an archive: all of them, or after an error none.

        Raises:
            DecurError: the table cannot be written.
        """
        with transaction(self._base, self._path):
            adding = _Archive(self._base, 1 + len(self.archives))
            yield adding
            adding.flush()
            row = (adding.number, name, adding.files, adding.bytes, adding.example)
            self._base.execute("INSERT INTO archives VALUES (?, ?, ?, ?, ?)", row)


class _Archive:
    """Members of an archive on their way into the table; those of a folder mostly come together."""

    def __init__(self, base: sqlite3.Connection, number: int) -> None:
        self._base, self.number = base, number
        self._folder, self._files = "", Files()
        self.example = b""
        self.rows = self.files = self.bytes = 0

    def add(self, path: str, size: int) -> None:
        """Add a file, by its path below the raw folder; it counts again if it comes again."""
        folder, _, name = path.rpartition("/")
        folder = folder or "."
        if folder != self._folder or len(self._files.names) == MOST:
            self.flush()
            self._folder = folder
        self._files.names[name] += 1
        self.files += 1
        self.bytes += size

    def keep(self, path: str, content: bytes) -> None:
        """Keep the content of the file that was added last."""
        self._files.contents[path.rpartition("/")[2]] = content

    def flush(self) -> None:
        """Write what has come of the last folder."""
        if not self._files.names:
            return
        text = self._files.text(self._folder)
        self.example = self.example or text[-EXAMPLE:]
        self.rows += 1
        row = (self._folder, self.number, self.rows, _pack(text, self.example))
        self._base.execute("INSERT INTO folders VALUES (?, ?, ?, ?)", row)
        self._files = Files()


class Listing:
    """A whole table; paths are those below the raw folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._base = connect(path, write=False)
        rows = self._rows("SELECT number, name, example FROM archives")
        self._archives = {number: (name, example) for number, name, example in rows}
        self._files = lru_cache(RECENT)(self._read)

    def names(self, folder: PurePosixPath) -> list[str] | None:
        """Names in a folder, sorted; None if there is no such folder."""
        found = {*self._files(str(folder)).names}
        first = len(folder.parts)
        for path in self._below(folder):
            found.add(PurePosixPath(path).parts[first])
        return sorted(found) if found else None

    def has(self, path: PurePosixPath) -> bool:
        """Whether there is a file of this path."""
        return path.name in self._files(str(path.parent)).names

    def walk(self, folder: PurePosixPath) -> Iterator[PurePosixPath]:
        """Paths of all files in a folder and below."""
        for place in (str(folder), *self._below(folder)):
            for name in self._files(place).names:
                yield PurePosixPath(place, name)

    def count(self, path: PurePosixPath) -> int:
        """How many members are this file, or lie in this folder and below; each time they come."""
        own = self._files(str(path.parent)).names[path.name]
        below = (str(path), *self._below(path))
        return own + sum(self._files(place).names.total() for place in below)

    def archive(self, path: PurePosixPath) -> str | None:
        """The name of the archive that a file, or the files in a folder and below, are from."""
        query = "SELECT archive FROM folders WHERE path = ? OR (path > ? AND path < ?) LIMIT 1"
        values = (str(path), f"{path}/", f"{path}0")
        if self.has(path):
            values = (str(path.parent), "", "")
        return next((self._archives[number][0] for (number,) in self._rows(query, *values)), None)

    def content(self, path: PurePosixPath) -> bytes | None:
        """What was kept of a file."""
        return self._files(str(path.parent)).contents.get(path.name)

    def _read(self, folder: str) -> Files:
        """The files in a folder, without those below; none if there is no such folder."""
        files = Files()
        query = "SELECT archive, files FROM folders WHERE path = ? ORDER BY archive, row"
        for number, packed in self._rows(query, folder):
            more = Files.of(_unpack(packed, self._archives[number][1]), folder)
            files.names.update(more.names)
            files.contents.update(more.contents)
        return files

    def _below(self, folder: PurePosixPath) -> Iterator[str]:
        """The folders below a folder, sorted; "0" comes after "/"."""
        if folder == PurePosixPath():
            rows = self._rows("SELECT DISTINCT path FROM folders WHERE path <> '.' ORDER BY path")
        else:
            query = "SELECT DISTINCT path FROM folders WHERE path > ? AND path < ? ORDER BY path"
            rows = self._rows(query, f"{folder}/", f"{folder}0")
        return (path for (path,) in rows)

    def _rows(self, query: str, *values: str) -> Iterator[Any]:
        try:
            with closing(self._base.execute(query, values)) as rows:
                yield from rows
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from error
