"""Samples straight from archives into the slots of shards.

Each archive is decompressed once, in order. As its members pass, those of a component (such as all
scenes of a location) are written into a folder for temporary files; once the last has come, a
worker process reads them, writes the arrays into the sample's slots, and removes them.

A ledger says which samples were read: after a kill an archive is decompressed again, but no image
is read twice. `decur.preprocess.completing` makes whole shards of all that.
"""

import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from decur.artifacts.files import (
    UnreadableError,
    remove,
    remove_left_over,
    temporary_of,
    write_all,
    writing,
)
from decur.cluster.progress import byte_bar
from decur.cluster.workers import worker_pool
from decur.datasets import Archive, Streamed
from decur.datasets.members import CHUNK, Member, members, naming_damage
from decur.errors import DecurError
from decur.preprocess.groups import Group, Groups, Target
from decur.preprocess.ledger import Entry, Ledger, entry_of
from decur.preprocess.plan import PlannedShard
from decur.preprocess.reading import Reader
from decur.shards.part import PARTS, is_noted
from decur.shards.sample import Spec
from decur.shards.slots import Slots

NOTED_SECONDS = 30.0
"""How long what was read may wait to be noted."""


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
        _scratch() as scratch,
    ):
        for stored in archives:
            with (
                Ledger(streaming.ledger(stored.name), streaming.origin) as ledger,
                closing(Groups(scratch / f"{stored.name}.sqlite", pending, slots)) as groups,
            ):
                ledger.forget(emptied)
                groups.fill(
                    streaming.reader, streaming.streamed, streaming.raw, stored.name, ledger
                )
                readers = _Readers(streaming, pool, workers, ledger, scratch)
                _pass(stored, groups, readers)
                readers.finish()


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for temporary files (`TMPDIR`); those of killed processes are removed."""
    own = Path(tempfile.gettempdir(), f"decur-{os.getuid()}")
    folder = temporary_of(own)
    with writing(folder):
        remove_left_over(own)
        remove(folder)  # of a killed process of the same number
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove(folder)


def _pass(stored: ArchiveFiles, groups: Groups, readers: "_Readers") -> None:
    """Let the members of an archive pass, until those of all groups have come."""
    if not groups.left:
        return
    total = sum(file.stat().st_size for file in stored.files)
    with byte_bar(f"read {stored.name}", total) as bar, naming_damage(stored.files[0]):
        for member in members(stored.archive, stored.files, bar.update):
            group = groups.take(member.path)
            if group is None:
                continue
            readers.keep(group, member)
            if not group.left:
                readers.read(group)
            if not groups.left:
                return
    raise DecurError(
        f"{stored.files[0]}: has not all files that it had when it was listed; run the download "
        "stage again"
    )


class _Readers:
    """Worker processes, or this one, that read groups; few wait to be read at a time."""

    def __init__(
        self,
        streaming: Streaming,
        pool: Executor | None,
        workers: int,
        ledger: Ledger,
        scratch: Path,
    ) -> None:
        self._streaming, self._pool, self._ledger = streaming, pool, ledger
        self._scratch, self._most = scratch, 2 * workers
        self._waiting: set[Future[list[Entry]]] = set()
        self._folder = ""
        self._entries: list[Entry] = []
        self._noted = time.monotonic()

    def keep(self, group: Group, member: Member) -> None:
        """Write a member of a group beside those that came before."""
        path = f"{self._scratch}/{group.folder}/{member.path}"
        folder = path.rpartition("/")[0]
        with writing(self._scratch):
            if folder != self._folder:
                Path(folder).mkdir(parents=True, exist_ok=True)
                self._folder = folder
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file, member.open() as source:
            while chunk := source.read(CHUNK):
                with writing(self._scratch):
                    write_all(file, chunk)

    def read(self, group: Group) -> None:
        """Have a whole group read; waits while enough others do."""
        folder = self._scratch / group.folder
        if self._pool is None:
            self._entries += read_group(self._streaming, folder, group)
        else:
            self._waiting.add(self._pool.submit(read_group, self._streaming, folder, group))
            if len(self._waiting) >= self._most:
                self._take(wait(self._waiting, return_when=FIRST_COMPLETED).done)
        if time.monotonic() - self._noted > NOTED_SECONDS:
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


def read_group(streaming: Streaming, folder: Path, group: Group) -> list[Entry]:
    """Read the members of a group in a folder, and remove it; the arrays go into slots.

    Raises:
        DecurError: a sample is bad and not to be left out, or the disk is full.
    """
    try:
        return [_read(streaming, folder, group.component, target) for target in group.targets]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
