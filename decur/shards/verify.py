"""Check every byte of a shards folder against its card and index."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from decur.artifacts.files import UnreadableError
from decur.artifacts.paths import CARD
from decur.artifacts.records import Card, card_digest
from decur.cluster.progress import progress_bar
from decur.errors import DecurError
from decur.shards.assemble import INDEX
from decur.shards.index import samples_checksum
from decur.shards.part import file_facts
from decur.shards.read import PairedShards, read_card, read_index
from decur.shards.sample import sample_checksum

ROWS = 64
"""Number of samples whose checksums are computed in one task."""


def verify(root: Path, *, workers: int = 1) -> list[str]:
    """Return one line for each fault of a shards folder; none if it is unchanged.

    Checks the size and SHA-256 of every file and of the card. If they are right, it checks that
    index, card and arrays agree: counts, unique ids, and the checksum of every sample as it is
    read. Threads suffice, because hashing releases Python's lock.

    Raises:
        UnreadableError: the file system cannot read a file, so its content remains unchecked.
    """
    try:
        card = read_card(root)
        text = (root / CARD).read_text(encoding="utf-8")
        tree = json.loads(text)
        if json.dumps(tree, indent=1) != text or card_digest(tree) != card.card_sha256:
            return [f"{root / CARD}: has been changed since it was written"]
        contents = card.contents
        with ThreadPoolExecutor(workers) as pool:
            found = pool.map(_facts, [root / file for file in contents])
            pairs = zip(contents.items(), found, strict=True)
            faults = [
                f"{root / file}: is {_told(facts)}, was written as {_told(written)}"
                for (file, written), facts in progress_bar("files", len(contents), iterable=pairs)
                if facts != written
            ]
            if faults:
                return faults
            faults = _index_faults(root, card)
            shards = PairedShards(root)
            tasks = [range(i, min(i + ROWS, len(shards))) for i in range(0, len(shards), ROWS)]
            faults_of_tasks = pool.map(partial(_wrong, shards), tasks)
            for wrong in progress_bar("samples", len(tasks), iterable=faults_of_tasks):
                faults += wrong
            return faults
    except UnreadableError:
        raise
    except DecurError as error:
        return [str(error)]


def _facts(path: Path) -> dict[str, Any] | None:
    return file_facts(path) if path.is_file() else None


def _told(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return "missing"
    return f"{facts['bytes']} bytes with SHA-256 {facts['sha256'][:16]}..."


def _index_faults(root: Path, card: Card) -> list[str]:
    index = read_index(root)
    twice = index["id"][index["id"].duplicated()].unique()
    faults = [f"{root / INDEX}: id '{name}' occurs more than once" for name in twice]
    if index["split"].value_counts().to_dict() != card.counts:
        faults.append(f"{root / INDEX}: its splits do not match the counts in {CARD}")
    if samples_checksum(index["checksum"]) != card.checksum:
        faults.append(f"{root / INDEX}: its checksums do not match {CARD}")
    return faults


def _wrong(shards: PairedShards, rows: Sequence[int]) -> list[str]:
    """Return one line for each of these samples that does not match its index row."""
    faults = []
    for row in rows:
        entry = shards.index.iloc[row]
        labels = entry["labels"]
        vector = None if labels is None else np.asarray(labels, dtype=np.uint8)
        if sample_checksum(shards.arrays(row), vector) != entry["checksum"]:
            faults.append(f"{shards.root}: sample '{entry['id']}' (row {row}) has another checksum")
    return faults
