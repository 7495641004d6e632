"""Samples that cannot be used: two of one id, and how many may be lost."""

import dataclasses
from collections.abc import Mapping, Sequence

from decur.datasets import Record
from decur.errors import DecurError
from decur.preprocess.reading import source_of
from decur.shards.part import Fault, ShardPart
from decur.shards.sample import TRAIN

MOST_LOST = 0.01
"""Share of the evaluation split that may be bad and left out."""


def unique(records: Sequence[Record]) -> list[Record]:
    """The records, of which one of each id may be without a fault.

    It is the first that is not for training, if there is any, else the first: what is in two splits
    is never trained on.
    """
    kept: dict[str, int] = {}
    for place, record in enumerate(records):
        first = kept.setdefault(record.id, place)
        if records[first].split == TRAIN != record.split:
            kept[record.id] = place
    unique = []
    for place, record in enumerate(records):
        if place != kept[record.id]:
            fault = f"{source_of(record)}: duplicate sample id '{record.id}'"
            record = dataclasses.replace(record, fault=fault)
        unique.append(record)
    return unique


def check_any(name: str, parts: Sequence[ShardPart]) -> None:
    """Raise a DecurError if there are samples, and none is good."""
    faults = [fault for part in parts for fault in part.faults]
    if faults and not any(part.rows for part in parts):
        raise DecurError(
            f"{name}: no sample of {len(faults)} is good; the last: {faults[-1].reason}"
        )


def lost_samples(
    split_of: Mapping[str, str], parts: Sequence[ShardPart]
) -> list[tuple[str, Fault]]:
    """Each bad sample with its split, without those of which there is a good one of the same id."""
    good = {row["id"] for part in parts for row in part.rows}
    faults = (fault for part in parts for fault in part.faults)
    return [(split_of[fault.id], fault) for fault in faults if fault.id not in good]


def check_evaluation(
    name: str, split: str, lost: Sequence[tuple[str, Fault]], parts: Sequence[ShardPart]
) -> None:
    """Refuse to evaluate on a split of which more than a hundredth is bad."""
    faults = [fault for of, fault in lost if of == split]
    whole = len(faults) + sum(row["split"] == split for part in parts for row in part.rows)
    if len(faults) > MOST_LOST * whole:
        raise DecurError(
            f"{name}: {len(faults)} of {whole} samples of the evaluation split '{split}' are bad, "
            f"more than {MOST_LOST:.0%}; the first: {faults[0].reason}"
        )
