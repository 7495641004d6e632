"""Convert samples whose raw files are in folders to a shard."""

from collections.abc import Sequence
from pathlib import Path

from decur import datasets
from decur.artifacts.files import UnreadableError
from decur.datasets import Record
from decur.errors import DecurError
from decur.preprocess.plan import PlannedShard
from decur.preprocess.reading import Reader, modalities_of, source_of
from decur.shards.part import Fault, Shard, load_part, save_part
from decur.shards.sample import Spec


def spec_of_first(reader: Reader, records: Sequence[Record]) -> Spec:
    """Take the common properties of all samples from the first good one.

    Raises:
        DecurError: no sample is good, or a bad sample may not be left out.
    """
    modalities = modalities_of(reader)
    ignore = datasets.load(reader.name, reader.settings).DATASET.ignore
    reason = "the raw folder is empty"
    for record in records:
        try:
            return Spec.of(reader(record), modalities, ignore)
        except DecurError as error:
            if not reader.skips or isinstance(error, UnreadableError):
                raise
            reason = str(error)
    raise DecurError(f"{reader.name}: none of {len(records)} samples is good; the last: {reason}")


def convert(reader: Reader, out: Path, spec: Spec, shard: PlannedShard) -> None:
    """Read the samples of one shard and write it into `out`, unless it exists already.

    Raises:
        DecurError: a bad sample may not be left out, or the disk is full.
    """
    found = load_part(out, shard.number, shard.identity)
    if found is not None and (reader.skips or not found.faults):
        return
    with Shard(out, shard.number, spec) as writing:
        for record in shard.records:
            try:
                sample = reader(record)
                spec.stored(sample)
            except DecurError as error:
                if not reader.skips or isinstance(error, UnreadableError):
                    raise
                writing.part.faults.append(Fault(record.id, source_of(record), str(error)))
            else:
                writing.add(sample)
    save_part(out, shard.number, shard.identity, writing.part)
