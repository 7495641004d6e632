"""A table of the files in archives that are not unpacked, so that a dataset can be scanned.

It is a SQLite file of one row per folder, sorted by path: of millions of files nothing is kept in
memory. Only one process writes it, and it has its name only when it is whole, so SQLite need not
lock it, which some file systems of clusters cannot.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from decur.errors import DecurError

LISTING = "members.sqlite"
"""Name of the table in a raw folder."""

TABLES = """
CREATE TABLE IF NOT EXISTS archives (name TEXT PRIMARY KEY, files INTEGER, bytes INTEGER);
CREATE TABLE IF NOT EXISTS folders (path TEXT PRIMARY KEY, files BLOB, archive TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contents (path TEXT PRIMARY KEY, content BLOB) WITHOUT ROWID;
"""


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
            adding = _Archive(self._base, name)
            yield adding
            adding.flush()
            row = (name, adding.files, adding.bytes)
            self._base.execute("INSERT INTO archives VALUES (?, ?, ?)", row)


class _Archive:
    """Members of an archive on their way into the table; those of a folder mostly come together."""

    def __init__(self, base: sqlite3.Connection, name: str) -> None:
        self._base, self._name = base, name
        self._folder = ""
        self._names: list[str] = []
        self.files = self.bytes = 0

    def add(self, path: str, size: int) -> None:
        """Add a file, by its path below the raw folder; it counts again if it comes again."""
        folder, _, name = path.rpartition("/")
        folder = folder or "."
        if folder != self._folder:
            self.flush()
            self._folder = folder
        self._names.append(name)
        self.files += 1
        self.bytes += size

    def keep(self, path: str, content: bytes) -> None:
        """Keep the content of a file."""
        row = (path, zlib.compress(content, 1))
        self._base.execute("INSERT OR REPLACE INTO contents VALUES (?, ?)", row)

    def flush(self) -> None:
        """Write what is known of the last folder."""
        if not self._names:
            return
        found = self._base.execute("SELECT files FROM folders WHERE path = ?", (self._folder,))
        names = [name for (packed,) in found for name in _unpack(packed)] + self._names
        row = (self._folder, _pack(sorted(names)), self._name)
        self._base.execute("INSERT OR REPLACE INTO folders VALUES (?, ?, ?)", row)
        self._names = []


def _pack(names: list[str]) -> bytes:
    """Names of files, which are much alike, in a tenth of their bytes."""
    return zlib.compress(json.dumps(names).encode(), 1)


def _unpack(packed: bytes) -> list[str]:
    names: list[str] = json.loads(zlib.decompress(packed))
    return names


class Listing:
    """A whole table; paths are those below the raw folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._base = connect(path, write=False)

    def names(self, folder: PurePosixPath) -> list[str] | None:
        """Names in a folder, sorted; None if there is no such folder."""
        found = set(self._files(folder))
        first = len(folder.parts)
        for path, _ in self._below(folder):
            found.add(PurePosixPath(path).parts[first])
        return sorted(found) if found else None

    def has(self, path: PurePosixPath) -> bool:
        """Whether there is a file of this path."""
        return path.name in self._files(path.parent)

    def walk(self, folder: PurePosixPath) -> Iterator[PurePosixPath]:
        """Paths of all files in a folder and below."""
        for name in dict.fromkeys(self._files(folder)):
            yield folder / name
        for path, packed in self._below(folder):
            for name in dict.fromkeys(_unpack(packed)):
                yield PurePosixPath(path, name)

    def count(self, path: PurePosixPath) -> int:
        """How many members are this file, or lie in this folder and below; each time they come."""
        own = self._files(path.parent).count(path.name) + len(self._files(path))
        return own + sum(len(_unpack(packed)) for _, packed in self._below(path))

    def archive(self, path: PurePosixPath) -> str | None:
        """The name of the archive that a file, or the files in a folder and below, are from."""
        query = "SELECT archive FROM folders WHERE path = ? OR (path > ? AND path < ?) LIMIT 1"
        values = (str(path), f"{path}/", f"{path}0")
        if path.name in self._files(path.parent):
            values = (str(path.parent), "", "")
        return next((name for (name,) in self._rows(query, *values)), None)

    def content(self, path: PurePosixPath) -> bytes | None:
        """What was kept of a file."""
        rows = self._rows("SELECT content FROM contents WHERE path = ?", str(path))
        return next((zlib.decompress(content) for (content,) in rows), None)

    def _files(self, folder: PurePosixPath) -> list[str]:
        rows = self._rows("SELECT files FROM folders WHERE path = ?", str(folder))
        return next((_unpack(packed) for (packed,) in rows), [])

    def _below(self, folder: PurePosixPath) -> Iterator[tuple[str, bytes]]:
        """Folders below a folder with their files; "0" comes after "/"."""
        if folder == PurePosixPath():
            return self._rows("SELECT path, files FROM folders WHERE path <> '.' ORDER BY path")
        query = "SELECT path, files FROM folders WHERE path > ? AND path < ? ORDER BY path"
        return self._rows(query, f"{folder}/", f"{folder}0")

    def _rows(self, query: str, *values: str) -> Iterator[Any]:
        try:
            with closing(self._base.execute(query, values)) as rows:
                yield from rows
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from error
