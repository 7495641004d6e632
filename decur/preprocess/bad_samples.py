"""Handle bad samples: mark duplicate ids, and limit how many samples may be lost."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from itertools import starmap

import numpy as np

from decur.datasets import Record, Records
from decur.errors import DecurError
from decur.preprocess.reading import source_of
from decur.shards.part import Fault, ShardPart
from decur.shards.sample import TRAIN

MOST_LOST = 0.01
"""Largest share of the evaluation split that may be bad and left out."""


def unique(records: Sequence[Record]) -> Sequence[Record]:
    """Return the records, with a fault for all but one record of each id.

    The one without a fault is the first that is not for training, if any, else the first. So a
    sample in two splits is never trained on.
    """
    if not _repeats(records):
        return records
    kept: dict[str, int] = {}
    for place, record in enumerate(records):
        first = kept.setdefault(record.id, place)
        if records[first].split == TRAIN != record.split:
            kept[record.id] = place

    def checked(place: int, record: Record) -> Record:
        if place == kept[record.id]:
            return record
        fault = f"{source_of(record)}: duplicate sample id '{record.id}'"
        return dataclasses.replace(record, fault=fault)

    return Records(starmap(checked, enumerate(records)))


def _repeats(records: Sequence[Record]) -> bool:
    """Return whether ids may repeat, using 8 bytes per sample."""
    hashes = np.fromiter((hash(record.id) for record in records), np.int64, len(records))
    return len(np.unique(hashes)) < len(records)


def check_any(name: str, parts: Iterable[ShardPart]) -> None:
    """Raise a DecurError if there are samples but none is good."""
    bad, reason = 0, ""
    for part in parts:
        if part.rows:
            return
        for fault in part.faults:
            bad, reason = bad + 1, fault.reason
    if bad:
        raise DecurError(f"{name}: none of {bad} samples is good; the last: {reason}")


def lost_samples(
    split_of: Callable[[Record], str], records: Iterable[Record], parts: Iterable[ShardPart]
) -> list[tuple[str, Fault]]:
    """Return each bad sample with its split, unless a good one has the same id."""
    faults = [fault for part in parts for fault in part.faults]
    if not faults:
        return []
    bad = {fault.id for fault in faults}
    good = {row["id"] for part in parts for row in part.rows if row["id"] in bad}
    splits = {record.id: split_of(record) for record in records if record.id in bad - good}
    return [(splits[fault.id], fault) for fault in faults if fault.id in splits]


def check_evaluation(
    name: str, split: str, lost: Sequence[tuple[str, Fault]], parts: Iterable[ShardPart]
) -> None:
    """Raise a DecurError if more than a hundredth of the evaluation split is bad."""
    faults = [fault for of, fault in lost if of == split]
    if not faults:
        return
    whole = len(faults) + sum(row["split"] == split for part in parts for row in part.rows)
    if len(faults) > MOST_LOST * whole:
        raise DecurError(
            f"{name}: {len(faults)} of {whole} samples of the evaluation split '{split}' are bad, "
            f"more than {MOST_LOST:.0%}; the first: {faults[0].reason}"
        )
