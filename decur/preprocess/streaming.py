"""Samples straight from archives into the slots of shards.

Each archive is decompressed once, in order. As its members pass, those of a component (such as all
scenes of a location) are put aside; once the last has come, a worker process decodes them in memory
and writes the arrays into the sample's slots.

A ledger says which samples were read: after a kill an archive is decompressed again, but no image
is read twice. `decur.preprocess.completing` makes whole shards of all that.
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
"""How long what was read may wait to be noted, and how much of it."""


@dataclass(frozen=True)
class ArchiveFiles:
    """An archive and its files, in order."""

    archive: Archive
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The name of its first file."""
        return self.files[0].name


@dataclass(frozen=True)
class Streaming:
    """How samples get from the archives of the raw folder `raw` into the shards folder `out`."""

    reader: Reader
    streamed: Streamed
    raw: Path
    out: Path
    spec: Spec
    origin: str

    def slots(self, shard: PlannedShard) -> Slots:
        """The slots of a shard."""
        return Slots(self.out, shard.number, self.spec, len(shard.slots()))

    def ledger(self, archive: str) -> Path:
        """The ledger of an archive, by its name."""
        return self.out / PARTS / f"{archive}.sqlite"

    def skips(self, error: DecurError) -> bool:
        """Whether a sample with this error is left out, rather than ending all."""
        return self.reader.skips and not isinstance(error, UnreadableError)


def stream(
    streaming: Streaming,
    archives: Sequence[ArchiveFiles],
    shards: Sequence[PlannedShard],
    workers: int,
) -> None:
    """Read all that is still to be read from these archives, one after the other, into slots.

    Raises:
        DecurError: an archive is damaged, a sample is bad and not to be left out, the disk is full,
            or a worker process died.
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
                except DamagedError:  # the sum at the end is wrong, so any member may be
                    ledger.forget(shard.samples for shard in pending)
                    raise
                readers.finish()


def _pass(stored: ArchiveFiles, groups: Groups, waiting: Waiting, readers: "_Readers") -> None:
    """Let the members of an archive pass, unless all its groups were read before.

    It is read to its end, where the sum of its bytes is.
    """
    if not groups.left:
        return
    file, total = stored.files[0], sum(file.stat().st_size for file in stored.files)
    with byte_bar(f"read {stored.name}", total) as bar:
        passing = members(stored.archive, stored.files, bar.update)
        while True:
            with naming_damage(file):  # not of what readers raise: a lost worker is no damage
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
            f"{file}: has not all files that it had when it was listed; run the download stage "
            "again"
        )


class _Readers:
    """Worker processes, or this one, that read groups; few wait to be read at a time."""

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
        """Have a whole group read, whose members are in `file`; waits while enough others do."""
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
        """Wait for all groups that are being read, and note them."""
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
    """Read the members of a group, whose file is removed; the arrays go into slots.

    Raises:
        DecurError: a sample is bad and not to be left out, or the disk is full.
    """
    try:
        with in_memory(contents(file, group)) as folder:
            return [_read(streaming, folder, group.component, target) for target in group.targets]
    finally:
        remove(file)


def _read(streaming: Streaming, folder: Path, name: str, target: Target) -> Entry:
    """Read a component; errors name its files as if they lay in the raw folder."""
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
