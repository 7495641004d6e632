"""Whole shards of what was read from archives, see `decur.preprocess.streaming`."""

from collections.abc import Mapping, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from decur.datasets import Component, Record
from decur.errors import DecurError
from decur.preprocess.ledger import Entries, Entry, component_of
from decur.preprocess.plan import PlannedShard
from decur.preprocess.reading import source_of
from decur.preprocess.streaming import StoredArchive, Streaming
from decur.shards.array_file import ArrayReader
from decur.shards.part import Fault, ShardPart, drop_part, is_noted, load_part, save_part


def complete(streaming: Streaming, archives: Sequence[StoredArchive], shard: PlannedShard) -> None:
    """Complete a shard whose slots are filled, unless it is whole already.

    Raises:
        DecurError: a sample is bad and not to be left out, or the shard was changed since it was
            whole.
    """
    out, spec = streaming.out, streaming.spec
    part = load_part(out, shard.number, shard.identity)
    if part is not None and (streaming.reader.skips or not part.faults):
        return
    if is_noted(out, shard.number, shard.identity):
        drop_part(out, shard.number, spec.shapes)
        raise DecurError(
            f"{out}: shard {shard.number} has changed since it was written, and was removed; run "
            "again to make it anew"
        )
    part, good, slot_of = ShardPart.of(spec), [], shard.slots()
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
            part.add(sample, spec)
            good.append(slot)
    save_part(out, shard.number, shard.identity, part, slots.finish(part, good))


def _components(
    streaming: Streaming,
    record: Record,
    entries: Mapping[str, Entry],
    arrays: Mapping[str, NDArray[np.uint8]],
) -> dict[str, Component]:
    """The components of a sample, given what was noted of them, and the arrays in its slot.

    Raises:
        DecurError: one of them is bad, or was not read.
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
