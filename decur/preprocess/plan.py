"""Which samples go into which shard."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from decur.datasets import Record
from decur.shards.sample import Spec
from decur.shards.writer import SHARD_BYTES

FEWEST_SHARDS = 16
"""A small dataset is cut into so many, to have work for every worker."""


@dataclass(frozen=True)
class PlannedShard:
    """A shard to be: the number of its first sample, its records, and what it is made from."""

    number: int
    first: int
    records: Sequence[Record]
    identity: str

    @property
    def samples(self) -> range:
        """Numbers of its samples."""
        return range(self.first, self.first + len(self.records))

    @cached_property
    def slots(self) -> dict[int, int]:
        """The slot of each record, by its position, but for those with a fault before reading."""
        sound = [place for place, record in enumerate(self.records) if not record.fault]
        return {place: slot for slot, place in enumerate(sound)}


def plan_shards(records: Sequence[Record], spec: Spec, origin: str) -> list[PlannedShard]:
    """Cut samples into shards of a limited size.

    Args:
        records: all samples, in order.
        spec: what each is like.
        origin: all that they come from.
    """
    size = max(1, min(SHARD_BYTES // spec.sample_bytes, -(-len(records) // FEWEST_SHARDS)))
    cut = [(first, records[first : first + size]) for first in range(0, len(records), size)]
    return [
        PlannedShard(number, first, part, _digest(f"{origin} {spec} {part}"))
        for number, (first, part) in enumerate(cut)
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
