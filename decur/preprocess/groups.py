"""Group the members of an archive that are read together, in a table on disk.

The table keeps millions of files out of memory. A group is a component of one or more samples, such
as all scenes of a location, or the image of a tile that is cut into patches. Its members are found
by their paths.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from decur.datasets import Record, Streamed
from decur.datasets.listing import connect, transaction
from decur.datasets.raw_files import ArchivedFiles
from decur.preprocess.ledger import Ledger
from decur.preprocess.plan import PlannedShard
from decur.preprocess.reading import Reader
from decur.shards.slots import Slots

TABLES = """
CREATE TABLE groups (number INTEGER PRIMARY KEY, component TEXT, members INTEGER);
CREATE TABLE paths (path TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID;
CREATE TABLE samples (number INTEGER, sample INTEGER, slot INTEGER);
"""
INDEXES = """
CREATE INDEX samples_of_group ON samples (number);
CREATE INDEX paths_of_group ON paths (number);
"""


class Target(NamedTuple):
    """Identify a record to read, the number of its sample, and its slot."""

    record: Record
    sample: int
    slots: Slots
    slot: int


@dataclass
class Group:
    """Track a component: its number, the missing members, its targets, and the members so far.

    `members` are the paths and sizes of the members so far. Their contents are in one file, one
    after the other.
    """

    component: str
    number: int
    left: int
    targets: Sequence[Target]
    members: list[tuple[str, int]] = field(default_factory=list)


class Groups:
    """Manage the unread groups of an archive; only those that have begun are in memory."""

    def __init__(
        self, path: Path, shards: Sequence[PlannedShard], slots: Mapping[int, Slots]
    ) -> None:
        self._path, self._shards, self._slots = path, shards, slots
        self._firsts = [shard.first for shard in shards]
        self._base = connect(path, write=True)
        self._base.executescript(TABLES)
        self._begun: dict[str, Group] = {}
        self.left = 0

    def fill(
        self, reader: Reader, streamed: Streamed, raw: Path, archive: str, ledger: Ledger
    ) -> None:
        """Find all groups of an archive that are not in the ledger."""
        files = ArchivedFiles(raw)
        with transaction(self._base, self._path):
            for shard in self._shards:
                slots, records = shard.slots(), enumerate(shard.records)
                for sample, record in ((shard.first + p, r) for p, r in records if p in slots):
                    slot = slots[sample - shard.first]
                    for name, keys in streamed.components(record, reader.settings).items():
                        paths = [record.paths[key] for key in keys]
                        if files.archive(paths[0]) == archive and not ledger.has(sample, name):
                            number = self._number(name, paths, raw, files)
                            row = (number, sample, slot)
                            self._base.execute("INSERT INTO samples VALUES (?, ?, ?)", row)
        self._base.executescript(INDEXES)

    def _number(self, name: str, paths: Sequence[Path], raw: Path, files: ArchivedFiles) -> int:
        """Return the number of the group with these paths, which is created if missing."""
        inside = [path.relative_to(raw).as_posix() for path in paths]
        if (known := self._find(inside[0])) is not None:
            return known
        row = (self.left, name, sum(files.count(path) for path in paths))
        self._base.execute("INSERT INTO groups VALUES (?, ?, ?)", row)
        rows = [(path, self.left) for path in inside]
        self._base.executemany("INSERT INTO paths VALUES (?, ?)", rows)
        self.left += 1
        return self.left - 1

    def _find(self, path: str) -> int | None:
        query = "SELECT number FROM paths WHERE path = ?"
        return next((number for (number,) in self._base.execute(query, (path,))), None)

    def take(self, path: str) -> Group | None:
        """Return the group of one more member, if it belongs to one."""
        group = self._begun_at(path) or self._begin(path)
        if group is None:
            return None
        group.left -= 1
        if not group.left:
            self._begun = {p: other for p, other in self._begun.items() if other is not group}
            self.left -= 1
        return group

    def _begun_at(self, path: str) -> Group | None:
        place = path
        while place and place not in self._begun:
            place = place.rpartition("/")[0]
        return self._begun.get(place)

    def _begin(self, path: str) -> Group | None:
        place, number = path, None
        while place and (number := self._find(place)) is None:
            place = place.rpartition("/")[0]
        if number is None:
            return None
        query = "SELECT component, members FROM groups WHERE number = ?"
        ((component, members),) = self._base.execute(query, (number,))
        query = "SELECT sample, slot FROM samples WHERE number = ? ORDER BY sample"
        targets = [self._target(*row) for row in self._base.execute(query, (number,))]
        group = Group(component, number, members, targets)
        rows = self._base.execute("SELECT path FROM paths WHERE number = ?", (number,))
        self._begun |= {place: group for (place,) in rows}
        return group

    def _target(self, sample: int, slot: int) -> Target:
        shard = self._shards[bisect_right(self._firsts, sample) - 1]
        return Target(shard.records[sample - shard.first], sample, self._slots[shard.number], slot)

    def close(self) -> None:
        """Close the table."""
        self._base.close()
