"""Record which samples were read, so that reading archives continues where it stopped.

There is one SQLite file per archive, which one job at a time writes. It contains the notes of each
component (`decur.datasets.Component`), or why it is bad. The arrays are in the slots of the shards.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from decur.datasets import Component
from decur.datasets.listing import connect, transaction

TABLES = """
CREATE TABLE IF NOT EXISTS origin (digest TEXT);
CREATE TABLE IF NOT EXISTS components
  (sample INTEGER, name TEXT, notes TEXT, fault TEXT, PRIMARY KEY (sample, name)) WITHOUT ROWID;
"""


class Entry(NamedTuple):
    """Describe one component of a numbered sample: its notes, or a fault and no notes.

    The notes are JSON of `arrays`, the CRC-32 of each array in slots by name, and `notes` as in
    `Component`.
    """

    sample: int
    name: str
    notes: str
    fault: str


class Ledger:
    """Store the entries of one archive; entries of another `origin` are removed.

    Raises:
        DecurError: in all methods, if the file cannot be read or written.
    """

    def __init__(self, path: Path, origin: str) -> None:
        self._path = path
        self._base = connect(path, write=True)
        with self._guarded():
            self._base.executescript(TABLES)
            if self._base.execute("SELECT digest FROM origin").fetchall() != [(origin,)]:
                self._base.execute("DELETE FROM origin")
                self._base.execute("DELETE FROM components")
                self._base.execute("INSERT INTO origin VALUES (?)", (origin,))

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *error: object) -> None:
        self._base.close()

    def add(self, entries: Iterable[Entry]) -> None:
        """Add entries; after a power cut, either all or none of them exist."""
        with self._guarded():
            rows = [tuple(entry) for entry in entries]
            self._base.executemany("INSERT OR REPLACE INTO components VALUES (?, ?, ?, ?)", rows)

    def forget(self, samples: Iterable[range]) -> None:
        """Remove the entries of samples, whose slots are empty again."""
        with self._guarded():
            rows = [(some.start, some.stop) for some in samples]
            query = "DELETE FROM components WHERE sample >= ? AND sample < ?"
            self._base.executemany(query, rows)

    def has(self, sample: int, name: str) -> bool:
        """Return whether a component was read."""
        with self._guarded():
            query = "SELECT 1 FROM components WHERE sample = ? AND name = ?"
            return self._base.execute(query, (sample, name)).fetchone() is not None

    def _guarded(self) -> AbstractContextManager[None]:
        return transaction(self._base, self._path)


class Entries:
    """Read the entries of finished ledgers, sample by sample."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._bases = {path: connect(path, write=False) for path in paths}

    def of(self, sample: int) -> dict[str, Entry]:
        """Return the entries of a sample, by component.

        Raises:
            DecurError: a ledger cannot be read.
        """
        found: dict[str, Entry] = {}
        for path, base in self._bases.items():
            with transaction(base, path):
                rows = base.execute("SELECT * FROM components WHERE sample = ?", (sample,))
                found |= {entry.name: entry for entry in map(Entry._make, rows)}
        return found

    def close(self) -> None:
        """Close the ledgers."""
        for base in self._bases.values():
            base.close()


class LostError(Exception):
    """Report that a slot lost what was written into it, for example by a power cut."""


def entry_of(sample: int, name: str, component: Component) -> Entry:
    """Create the entry of a good component, whose arrays are in slots."""
    sums = {array: _sum(values) for array, values in component.arrays.items()}
    return Entry(sample, name, json.dumps({"arrays": sums, "notes": component.notes}), "")


def component_of(entry: Entry, arrays: Mapping[str, NDArray[np.uint8]]) -> Component:
    """Restore the component of a good entry, given the arrays in its sample's slot by name.

    Raises:
        LostError: the arrays are not those that were written.
    """
    tree = json.loads(entry.notes)
    if any(_sum(arrays[name]) != sum_ for name, sum_ in tree["arrays"].items()):
        raise LostError
    return Component({name: arrays[name] for name in tree["arrays"]}, tree["notes"])


def _sum(array: NDArray[np.uint8]) -> int:
    return isal_zlib.crc32(np.ascontiguousarray(array).reshape(-1).data)
