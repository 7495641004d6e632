"""Whole shards of what was read from archives, see `decur.preprocess.streaming`."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from decur.datasets import Component, Record
from decur.errors import DecurError
from decur.preprocess.ledger import Entry, component_of, read_entries
from decur.preprocess.plan import PlannedShard
from decur.preprocess.reading import source_of
from decur.preprocess.streaming import StoredArchive, Streaming
from decur.shards.array_file import ArrayReader
from decur.shards.part import Fault, ShardPart, drop_part, is_noted, load_part, save_part

Entries = Mapping[tuple[int, str], Entry]


def complete(
    streaming: Streaming, archives: Sequence[StoredArchive], shard: PlannedShard
) -> ShardPart:
    """Complete a shard whose slots are filled, unless it is whole already.

    Raises:
        DecurError: a sample is bad and not to be left out, or the shard was changed since it was
            whole.
    """
    out, spec = streaming.out, streaming.spec
    part = load_part(out, shard.number, shard.identity)
    if part is not None and (streaming.reader.skips or not part.faults):
        return part
    if is_noted(out, shard.number, shard.identity):
        drop_part(out, shard.number, spec.shapes)
        raise DecurError(
            f"{out}: shard {shard.number} has changed since it was written, and was removed; run "
            "again to make it anew"
        )
    entries = _entries(streaming, archives, shard)
    slots = streaming.slots(shard)
    readers = slots.readers() if shard.slots else {}
    part, good = ShardPart.of(spec), []
    for place, record in enumerate(shard.records):
        try:
            if record.fault:
                raise DecurError(record.fault)
            slot = shard.slots[place]
            found = _components(streaming, record, shard.first + place, entries, readers, slot)
            sample = streaming.streamed.join(record, found, streaming.reader.settings)
        except DecurError as error:
            if not streaming.skips(error):
                raise
            part.faults.append(Fault(record.id, source_of(record), str(error)))
            continue
        read = {name for component in found.values() for name in component.arrays}
        for name, array in sample.all_arrays().items():
            if name not in read:
                slots.write(name, slot, array)
        part.add(sample, spec)
        good.append(slot)
    save_part(out, shard.number, shard.identity, part, slots.finish(part, good))
    return part


def _entries(
    streaming: Streaming, archives: Sequence[StoredArchive], shard: PlannedShard
) -> Entries:
    """What was noted of the samples of a shard."""
    found: dict[tuple[int, str], Entry] = {}
    for archive in archives:
        path = streaming.ledger(archive.name)
        found |= read_entries(path, shard.first, len(shard.records))
    return found


def _components(
    streaming: Streaming,
    record: Record,
    sample: int,
    entries: Entries,
    readers: Mapping[str, ArrayReader],
    slot: int,
) -> dict[str, Component]:
    """The components of a sample, their arrays read from its slot.

    Raises:
        DecurError: one of them is bad.
    """
    names = streaming.streamed.components(record, streaming.reader.settings)
    missing = [name for name in names if (sample, name) not in entries]
    if missing:
        raise DecurError(f"{source_of(record)}: its {missing[0]} was in no archive")
    of_sample = [entries[sample, name] for name in names]
    for entry in of_sample:
        if entry.fault:
            raise DecurError(entry.fault)
    arrays = {name: _row(reader, slot) for name, reader in readers.items()}
    return {entry.name: component_of(entry, arrays) for entry in of_sample}


def _row(reader: ArrayReader, slot: int) -> NDArray[np.uint8]:
    row = np.empty(reader.shape[1:], np.uint8)
    reader.read_into(row, slot)
    return row
