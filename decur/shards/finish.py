"""Shards that are all whole become a folder: the index, the list of faults, and last the card."""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decur.errors import DecurError
from decur.files import writing
from decur.shards.part import LEVELS, PARTS, Fault, Part, file_facts
from decur.shards.sample import Spec

VERSION = 2
"""Of the layout: what is written by other versions is not read."""

CARD, INDEX, QUARANTINE = "card.json", "index.parquet", "quarantine.csv"
PERCENTILES = (1, 50, 99)


def begin(root: Path) -> None:
    """Prepare a folder to be filled; without its card it is not read meanwhile."""
    with writing(root):
        (root / PARTS).mkdir(parents=True, exist_ok=True)
        (root / CARD).unlink(missing_ok=True)


def finish(root: Path, parts: Sequence[Part], spec: Spec, card: Mapping[str, Any]) -> None:
    """Write index, quarantine list and card of a folder that holds the parts' files.

    Raises:
        DecurError: there is no sample at all, or the folder cannot be written.
    """
    rows = [row for part in parts for row in part.rows]
    faults = [fault for part in parts for fault in part.faults]
    if not rows:
        raise DecurError(f"{root}: no sample was found; check the raw folder's layout")
    index = pd.DataFrame(rows)
    contents = {file: facts for part in parts for file, facts in part.contents.items()}
    with writing(root):
        index.to_parquet(root / PARTS / INDEX, index=False)
        (root / PARTS / QUARANTINE).write_text(_as_csv(faults))
        for file in (INDEX, QUARANTINE):
            (root / PARTS / file).replace(root / file)
            contents[file] = file_facts(root / file)
        for path in root.glob("*-[0-9][0-9][0-9][0-9][0-9].npy"):
            if path.name not in contents:  # left by other settings
                path.unlink()
        whole = {
            **card,
            "layout": VERSION,
            "dtype": "uint8",
            "modalities": [
                {
                    **asdict(m),
                    **statistics(np.sum([part.histograms[m.name] for part in parts], axis=0)),
                    "shape": spec.shapes[m.name],
                }
                for m in spec.modalities
            ],
            "counts": index["split"].value_counts().sort_index().to_dict(),
            "quarantined": len(faults),
            "files": {
                name: [part.files[name] for part in parts if part.rows] for name in spec.shapes
            },
            "contents": contents,
            "checksum": samples_checksum(index),
        }
        whole["card_sha256"] = card_digest(whole)
        (root / PARTS / CARD).write_text(json.dumps(whole, indent=1))
        (root / PARTS / CARD).replace(root / CARD)
        shutil.rmtree(root / PARTS)


def statistics(histograms: NDArray[np.int64]) -> dict[str, Any]:
    """Mean, standard deviation and percentiles of each band, exact, from its histogram.

    Args:
        histograms: (bands, 256) counts of the values 0..255.
    """
    values = np.arange(LEVELS)
    counts = histograms.sum(axis=1)
    mean = histograms @ values / counts
    std = np.sqrt((histograms * (values - mean[:, None]) ** 2).sum(axis=1) / counts)
    return {
        "mean": mean.round(4).tolist(),
        "std": std.round(4).tolist(),
        "percentiles": {
            str(p): [round(_percentile(h, p), 4) for h in histograms] for p in PERCENTILES
        },
    }


def _percentile(histogram: NDArray[np.int64], percent: float) -> float:
    """As numpy.percentile, linear between the two nearest ranks."""
    below = np.cumsum(histogram)
    rank = percent / 100 * (int(below[-1]) - 1)
    low, high = np.searchsorted(below, [np.floor(rank), np.ceil(rank)], side="right")
    return float(low + (high - low) * (rank % 1))


def samples_checksum(index: pd.DataFrame) -> str:
    """What names the data of a folder: a digest of all samples' checksums, in order."""
    return hashlib.sha256("".join(index["checksum"]).encode()).hexdigest()[:16]


def card_digest(card: Mapping[str, Any]) -> str:
    """SHA-256 of all that a card says, but for this digest itself."""
    said = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _as_csv(faults: Sequence[Fault]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Fault._fields, *faults])
    return text.getvalue()
