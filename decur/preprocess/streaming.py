"""Read samples directly from archives into the slots of shards.

Each archive is decompressed once, in order. As its members pass, those of a component (such as all
scenes of a location) are buffered. Once the last has arrived, a worker process decodes them in
memory and writes the arrays into the slots of their samples.

A ledger records which samples were read. After a kill an archive is decompressed again, but no
image is read twice. `decur.preprocess.completing` then completes the shards.
"""

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from decur.artifacts.files import UnreadableError, remove
from decur.cluster.progress import byte_bar
from decur.cluster.workers import worker_pool
from decur.datasets import Archive, Streamed
from decur.datasets.members import DamagedError, members, naming_damage
from decur.errors import DecurError
from decur.imagery.source import in_memory
from decur.preprocess.groups import Group, Groups, Target
from decur.preprocess.ledger import Entry, Ledger, entry_of
from decur.preprocess.plan import PlannedShard
from decur.preprocess.reading import Reader
from decur.preprocess.scratch import Waiting, contents, scratch
from decur.shards.part import PARTS, is_noted
from decur.shards.sample import Spec
from decur.shards.slots import Slots

NOTED_SECONDS, NOTED_ENTRIES = 30.0, 1000
"""Longest time and largest number of entries before read samples are recorded in the ledger."""


@dataclass(frozen=True)
class ArchiveFiles:
    """Pair an archive with its files, in order."""

    archive: Archive
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Return the name of its first file."""
        return self.files[0].name


@dataclass(frozen=True)
class Streaming:
    """Describe a conversion from the archives of the raw folder `raw` to the shards in `out`."""

    reader: Reader
    streamed: Streamed
    raw: Path
    out: Path
    spec: Spec
    origin: str

    def slots(self, shard: PlannedShard) -> Slots:
        """Return the slots of a shard."""
        return Slots(self.out, shard.number, self.spec, len(shard.slots()))

    def ledger(self, archive: str) -> Path:
        """Return the path of an archive's ledger."""
        return self.out / PARTS / f"{archive}.sqlite"

    def skips(self, error: DecurError) -> bool:
        """Return whether a sample with this error is left out, rather than ending the run."""
        return self.reader.skips and not isinstance(error, UnreadableError)


def stream(
    streaming: Streaming,
    archives: Sequence[ArchiveFiles],
    shards: Sequence[PlannedShard],
    workers: int,
) -> None:
    """Read everything that is unread in these archives into slots, one archive after the other.

    Raises:
        DecurError: an archive is damaged, a bad sample may not be left out, the disk is full, or a
            worker process died.
    """
    out, name = streaming.out, streaming.reader.name
    pending = [shard for shard in shards if not is_noted(out, shard.number, shard.identity)]
    if not pending:
        return
    slots = {shard.number: streaming.slots(shard) for shard in pending}
    emptied = [shard.samples for shard in pending if slots[shard.number].create()]
    with (
        worker_pool(workers, name) if workers > 1 else nullcontext() as pool,
        scratch() as folder,
    ):
        for stored in archives:
            with (
                Ledger(streaming.ledger(stored.name), streaming.origin) as ledger,
                closing(Groups(folder / f"{stored.name}.sqlite", pending, slots)) as groups,
                closing(Waiting(folder)) as waiting,
            ):
                ledger.forget(emptied)
                groups.fill(
                    streaming.reader, streaming.streamed, streaming.raw, stored.name, ledger
                )
                readers = _Readers(streaming, pool, workers, ledger)
                try:
                    _pass(stored, groups, waiting, readers)
                except DamagedError:  # the checksum at the end is wrong, so any member may be
                    ledger.forget(shard.samples for shard in pending)
                    raise
                readers.finish()


def _pass(stored: ArchiveFiles, groups: Groups, waiting: Waiting, readers: "_Readers") -> None:
    """Pass over the members of an archive, unless all its groups were read before.

    The archive is read to its end, where its checksum is.
    """
    if not groups.left:
        return
    file, total = stored.files[0], sum(file.stat().st_size for file in stored.files)
    with byte_bar(f"read {stored.name}", total) as bar:
        passing = members(stored.archive, stored.files, bar.update)
        while True:
            with naming_damage(file):  # excludes readers: a lost worker is not damage
                member = next(passing, None)
                if member is None:
                    break
                group = groups.take(member.path)
                if group is not None:
                    waiting.add(group, member)
            if group is not None and not group.left:
                readers.read(group, waiting.whole(group))
    if groups.left:
        raise DecurError(
            f"{file}: lacks files that it had when it was listed; run the download stage again"
        )


class _Readers:
    """Read groups in worker processes, or in this one, with a limited queue."""

    def __init__(
        self,
        streaming: Streaming,
        pool: Executor | None,
        workers: int,
        ledger: Ledger,
    ) -> None:
        self._streaming, self._pool, self._ledger = streaming, pool, ledger
        self._most = 2 * workers
        self._waiting: set[Future[list[Entry]]] = set()
        self._entries: list[Entry] = []
        self._noted = time.monotonic()

    def read(self, group: Group, file: Path) -> None:
        """Read a complete group, whose members are in `file`; blocks while the queue is full."""
        if self._pool is None:
            self._entries += read_group(self._streaming, file, group)
        else:
            self._waiting.add(self._pool.submit(read_group, self._streaming, file, group))
            if len(self._waiting) >= self._most:
                self._take(wait(self._waiting, return_when=FIRST_COMPLETED).done)
        waited = time.monotonic() - self._noted
        if waited > NOTED_SECONDS or len(self._entries) > NOTED_ENTRIES:
            self._note()

    def finish(self) -> None:
        """Wait for all groups that are being read, and record them."""
        self._take(wait(self._waiting).done)
        self._note()

    def _take(self, futures: Iterable[Future[list[Entry]]]) -> None:
        for future in [*futures]:
            self._waiting.remove(future)
            self._entries += future.result()

    def _note(self) -> None:
        self._ledger.add(self._entries)
        self._entries, self._noted = [], time.monotonic()


def read_group(streaming: Streaming, file: Path, group: Group) -> list[Entry]:
    """Read the members of a group into slots, and remove the group's file.

    Raises:
        DecurError: a bad sample may not be left out, or the disk is full.
    """
    try:
        with in_memory(contents(file, group)) as folder:
            return [_read(streaming, folder, group.component, target) for target in group.targets]
    finally:
        remove(file)


def _read(streaming: Streaming, folder: Path, name: str, target: Target) -> Entry:
    """Read a component; errors name its files by their paths in the raw folder."""
    raw = streaming.raw
    paths = {key: folder / p.relative_to(raw) for key, p in target.record.paths.items()}
    record = dataclasses.replace(target.record, paths=paths)
    try:
        component = streaming.streamed.read(record, name, streaming.reader.settings)
    except DecurError as error:
        reason = str(error).replace(str(folder), str(raw))
        if not streaming.skips(error):
            raise type(error)(reason) from error
        return Entry(target.sample, name, "", reason)
    for array, values in component.arrays.items():
        target.slots.write(array, target.slot, values)
    entry = entry_of(target.sample, name, component)
    inner, outer = (json.dumps(str(path))[1:-1] for path in (folder, raw))
    return entry._replace(notes=entry.notes.replace(inner, outer))
