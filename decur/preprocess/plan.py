"""Plan which samples go into which shard."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from decur.datasets import Record
from decur.shards.sample import Spec
from decur.shards.writer import SHARD_BYTES, SHARD_SAMPLES

FEWEST_SHARDS = 16
"""Smallest number of shards of a small dataset, to give work to every worker."""


class Slice(Sequence[Record]):
    """Select some of all samples, which are created or copied only on access."""

    def __init__(self, records: Sequence[Record], first: int, stop: int) -> None:
        self._records, self._range = records, range(first, min(stop, len(records)))

    def __len__(self) -> int:
        return len(self._range)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records[self._range.start : self._range.stop])

    def __getitem__(self, place: Any) -> Any:
        return [*self][place] if isinstance(place, slice) else self._records[self._range[place]]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ([*self],)  # a worker process needs no other records


@dataclass(frozen=True)
class PlannedShard:
    """Describe a planned shard: number, first sample, records, and identity of its inputs."""

    number: int
    first: int
    records: Sequence[Record]
    identity: str

    @property
    def samples(self) -> range:
        """Return the numbers of its samples."""
        return range(self.first, self.first + len(self.records))

    def slots(self) -> dict[int, int]:
        """Return the slot of each record by its position, without records that have a fault."""
        sound = [place for place, record in enumerate(self.records) if not record.fault]
        return {place: slot for slot, place in enumerate(sound)}


def plan_shards(records: Sequence[Record], spec: Spec, origin: str) -> list[PlannedShard]:
    """Divide samples into shards of a limited size.

    Args:
        records: all samples, in order.
        spec: the common properties of the samples.
        origin: identifies everything that they are made from.
    """
    most = min(SHARD_BYTES // spec.sample_bytes, SHARD_SAMPLES)
    size = max(1, min(most, -(-len(records) // FEWEST_SHARDS)))
    cut = [(first, Slice(records, first, first + size)) for first in range(0, len(records), size)]
    return [
        PlannedShard(number, first, part, _digest(f"{origin} {spec}", part))
        for number, (first, part) in enumerate(cut)
    ]


def _digest(origin: str, records: Iterable[Record]) -> str:
    digest = hashlib.sha256(origin.encode())
    for record in records:
        digest.update(repr(record).encode())
    return digest.hexdigest()
