"""Complete shards that were read from archives, see `decur.preprocess.streaming`."""

from collections.abc import Mapping, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from decur.datasets import Component, Record
from decur.errors import DecurError
from decur.preprocess.ledger import Entries, Entry, LostError, component_of
from decur.preprocess.plan import PlannedShard
from decur.preprocess.reading import source_of
from decur.preprocess.streaming import ArchiveFiles, Streaming
from decur.shards.array_file import ArrayReader
from decur.shards.part import Fault, ShardPart, drop_part, is_noted, load_part, save_part


def complete(streaming: Streaming, archives: Sequence[ArchiveFiles], shard: PlannedShard) -> None:
    """Complete a shard whose slots are filled, unless it is complete already.

    Raises:
        DecurError: a bad sample may not be left out, or the files of the shard have changed since
            they were written; they are then removed, to be made again.
    """
    part = load_part(streaming.out, shard.number, shard.identity)
    if part is not None:
        if part.faults and not streaming.reader.skips:  # an earlier run was allowed to skip them
            raise DecurError(part.faults[0].reason)
        return
    try:
        if is_noted(streaming.out, shard.number, shard.identity):
            raise LostError
        _complete(streaming, archives, shard)
    except LostError:
        drop_part(streaming.out, shard.number, streaming.spec.shapes)
        raise DecurError(
            f"{streaming.out}: shard {shard.number} has changed since it was written, and was "
            "removed; run again to rebuild it"
        ) from None


def _complete(streaming: Streaming, archives: Sequence[ArchiveFiles], shard: PlannedShard) -> None:
    part, good, slot_of = ShardPart.of(streaming.spec), [], shard.slots()
    slots = streaming.slots(shard)
    readers = slots.readers() if slot_of else {}
    with closing(Entries(streaming.ledger(archive.name) for archive in archives)) as entries:
        for place, record in enumerate(shard.records):
            try:
                if record.fault:
                    raise DecurError(record.fault)
                slot = slot_of[place]
                arrays = {name: _row(reader, slot) for name, reader in readers.items()}
                found = _components(streaming, record, entries.of(shard.first + place), arrays)
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
            part.add(sample, streaming.spec)
            good.append(slot)
    copies = slots.finish(part, good)
    save_part(streaming.out, shard.number, shard.identity, part, copies)


def _components(
    streaming: Streaming,
    record: Record,
    entries: Mapping[str, Entry],
    arrays: Mapping[str, NDArray[np.uint8]],
) -> dict[str, Component]:
    """Return the components of a sample, from their ledger entries and the arrays in its slot.

    Raises:
        DecurError: a component is bad, or was not read.
        LostError: the arrays are not those that were read.
    """
    names = [*streaming.streamed.components(record, streaming.reader.settings)]
    for name in names:
        if name not in entries:
            raise DecurError(f"{source_of(record)}: its {name} was in no archive")
        if entries[name].fault:
            raise DecurError(entries[name].fault)
    return {name: component_of(entries[name], arrays) for name in names}


def _row(reader: ArrayReader, slot: int) -> NDArray[np.uint8]:
    row = np.empty(reader.shape[1:], np.uint8)
    reader.read_into(row, slot)
    return row
