"""List the files in archives that are not unpacked, so that a dataset can be scanned.

The table is a SQLite file with one row per folder, or several rows if a folder has many files or
its files are not adjacent. It keeps millions of files out of memory. Only one process writes it,
and it gets its name only when it is complete. So SQLite need not lock it, which some cluster file
systems do not support.
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

EXAMPLE = 1 << 15  # bytes; zlib uses no more

OWN = "\0"  # JSON cannot contain it

MOST = 1000
"""Largest number of file names per row."""

RECENT = 64
"""Folders that a reader caches, because the files of a folder are requested one after another."""


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a SQLite file that no other process writes.

    Raises:
        DecurError: the file cannot be read.
    """
    mode = "rwc" if write else "ro"
    try:
        base = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}&nolock=1", uri=True)
        base.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise unreadable(path, error) from error
    return base


def unreadable(path: Path, error: sqlite3.Error) -> DecurError:
    """Create the error for a table that SQLite cannot read or write."""
    return DecurError(f"{path}: {error}; if the disk is not full, delete the file and run again")


@contextmanager
def transaction(base: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Make all changes to a table, or none after an error or a kill.

    Raises:
        DecurError: the changes fail.
    """
    try:
        with base:
            yield
    except sqlite3.Error as error:
        raise unreadable(path, error) from error


@dataclass
class Files:
    """Hold the files of a folder: the count of each name, and the content kept of some."""

    names: Counter[str] = field(default_factory=Counter)
    contents: dict[str, bytes] = field(default_factory=dict)

    def text(self, folder: str) -> bytes:
        """Write JSON, with the folder's name, which many files begin with, as a zero byte."""
        contents = {name: content.decode("latin-1") for name, content in self.contents.items()}
        text = json.dumps([sorted(self.names.elements()), contents])
        return text.replace(PurePosixPath(folder).name or OWN, OWN).encode()

    @classmethod
    def of(cls, text: bytes, folder: str) -> "Files":
        """Parse what `text` wrote for this folder."""
        tree = text.decode().replace(OWN, PurePosixPath(folder).name)
        names, contents = json.loads(tree)
        return cls(
            Counter(names), {name: kept.encode("latin-1") for name, kept in contents.items()}
        )


def _pack(text: bytes, example: bytes) -> bytes:
    """Compress a text; the more it resembles the example, the smaller the result."""
    packing = zlib.compressobj(1, wbits=-zlib.MAX_WBITS, zdict=example)
    return packing.compress(text) + packing.flush()


def _unpack(packed: bytes, example: bytes) -> bytes:
    return zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=example).decompress(packed)


class ListingWriter:
    """Write a table; archives that it lists already need not be read again."""

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
        """Return the number of files and bytes of each archive in the table."""
        rows = self._base.execute("SELECT name, files, bytes FROM archives")
        return {name: (files, size) for name, files, size in rows}

    @contextmanager
    def archive(self, name: str) -> Iterator["_Archive"]:
        """Add the members of an archive: all of them, or none after an error.

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
    """Collect an archive's members for the table; those of a folder are mostly adjacent."""

    def __init__(self, base: sqlite3.Connection, number: int) -> None:
        self._base, self.number = base, number
        self._folder, self._files = "", Files()
        self.example = b""
        self.rows = self.files = self.bytes = 0

    def add(self, path: str, size: int) -> None:
        """Add a file by its path below the raw folder; a repeated path counts again."""
        folder, _, name = path.rpartition("/")
        folder = folder or "."
        if folder != self._folder or len(self._files.names) == MOST:
            self.flush()
            self._folder = folder
        self._files.names[name] += 1
        self.files += 1
        self.bytes += size

    def keep(self, path: str, content: bytes) -> None:
        """Keep the content of the last added file."""
        self._files.contents[path.rpartition("/")[2]] = content

    def flush(self) -> None:
        """Write the collected files of the last folder."""
        if not self._files.names:
            return
        text = self._files.text(self._folder)
        self.example = self.example or text[-EXAMPLE:]
        self.rows += 1
        row = (self._folder, self.number, self.rows, _pack(text, self.example))
        self._base.execute("INSERT INTO folders VALUES (?, ?, ?, ?)", row)
        self._files = Files()


class Listing:
    """Read a complete table; paths are relative to the raw folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._base = connect(path, write=False)
        rows = self._rows("SELECT number, name, example FROM archives")
        self._archives = {number: (name, example) for number, name, example in rows}
        self._files = lru_cache(RECENT)(self._read)

    def names(self, folder: PurePosixPath) -> list[str] | None:
        """List the names in a folder, sorted; None if the folder does not exist."""
        found = {*self._files(str(folder)).names}
        first = len(folder.parts)
        for path in self._below(folder):
            found.add(PurePosixPath(path).parts[first])
        return sorted(found) if found else None

    def has(self, path: PurePosixPath) -> bool:
        """Return whether a file has this path."""
        return path.name in self._files(str(path.parent)).names

    def walk(self, folder: PurePosixPath) -> Iterator[PurePosixPath]:
        """Iterate over the paths of all files in a folder and below."""
        for place in (str(folder), *self._below(folder)):
            for name in self._files(place).names:
                yield PurePosixPath(place, name)

    def count(self, path: PurePosixPath) -> int:
        """Count the members that are this file, or lie in this folder and below, with repeats."""
        own = self._files(str(path.parent)).names[path.name]
        below = (str(path), *self._below(path))
        return own + sum(self._files(place).names.total() for place in below)

    def archive(self, path: PurePosixPath) -> str | None:
        """Return the name of the archive of a file, or of the files in a folder and below."""
        query = "SELECT archive FROM folders WHERE path = ? OR (path > ? AND path < ?) LIMIT 1"
        values = (str(path), f"{path}/", f"{path}0")
        if self.has(path):
            values = (str(path.parent), "", "")
        return next((self._archives[number][0] for (number,) in self._rows(query, *values)), None)

    def content(self, path: PurePosixPath) -> bytes | None:
        """Return the kept content of a file."""
        return self._files(str(path.parent)).contents.get(path.name)

    def _read(self, folder: str) -> Files:
        """Read the files of a folder, without those in subfolders; empty if it does not exist."""
        files = Files()
        query = "SELECT archive, files FROM folders WHERE path = ? ORDER BY archive, row"
        for number, packed in self._rows(query, folder):
            more = Files.of(_unpack(packed, self._archives[number][1]), folder)
            files.names.update(more.names)
            files.contents.update(more.contents)
        return files

    def _below(self, folder: PurePosixPath) -> Iterator[str]:
        """Find the folders below a folder, sorted; the bound works because "0" follows "/"."""
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
