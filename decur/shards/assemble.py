"""Turn complete shards into a folder with index, list of faults and, written last, the card."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.files import remove, writing
from decur.artifacts.ownership import OwnFolder
from decur.artifacts.paths import CARD
from decur.artifacts.records import Card, card_digest
from decur.errors import DecurError
from decur.shards.index import IndexWriter, samples_checksum
from decur.shards.part import LEVELS, PARTS, STAGE, Fault, ShardPart, file_facts
from decur.shards.sample import Spec

VERSION = 2
"""Version of the layout; other versions are not read."""

INDEX, QUARANTINE = "index.parquet", "quarantine.csv"
PERCENTILES = (1, 50, 99)


def own_folder(root: Path) -> OwnFolder:
    """Return the shards folder `root` as an owned folder, which is complete with its card."""
    return OwnFolder(root, CARD, _is_card)


def _is_card(path: Path) -> bool:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        return bool(card["card_sha256"] == card_digest(card))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def prepare(root: Path, *, keep: bool) -> None:
    """Prepare a folder for writing; `keep` keeps the complete shards of a killed run.

    Raises:
        DecurError: the folder contains foreign files, or cannot be written.
    """
    folder = own_folder(root)
    if not keep:
        remove(root / PARTS)
    folder.stage(STAGE, keep=True)


def assemble(root: Path, parts: Iterable[ShardPart], spec: Spec, card: Mapping[str, Any]) -> int:
    """Move the staged shards into their folder, with index, quarantine list and card.

    Args:
        root: the folder.
        parts: the metadata of each shard, in order; read several times, one at a time.
        spec: the common properties of all samples.
        card: further fields of the card.

    Returns:
        The number of samples that were left out.

    Raises:
        DecurError: no sample was given, or the folder is not writable.
    """
    if not any(part.rows for part in parts):
        raise DecurError(f"{root}: no sample was found; check the raw folder's layout")
    folder = own_folder(root)
    stage = folder.stage(STAGE, keep=True)
    with writing(root):
        known = _known(stage, parts, spec)
        (stage / QUARANTINE).write_text(_as_csv(known.faults), encoding="utf-8")
        contents = known.contents | {f: file_facts(stage / f) for f in (INDEX, QUARANTINE)}
        whole = Card.model_validate(
            {
                **card,
                "layout": VERSION,
                "modalities": [
                    {
                        "name": m.name,
                        "bands": m.bands,
                        "scaling": m.typed_scaling,
                        **_training_statistics(known.histograms[m.name]),
                        "shape": spec.shapes[m.name],
                    }
                    for m in spec.modalities
                ],
                "counts": dict(sorted(known.counts.items())),
                "quarantined": len(known.faults),
                "files": known.files,
                "contents": contents,
                "checksum": known.checksum,
                "card_sha256": "",
            }
        ).dump()
        whole["card_sha256"] = card_digest(whole)
        (stage / CARD).write_text(json.dumps(whole, indent=1), encoding="utf-8")
    folder.put_in_place(stage, list(contents))
    return len(known.faults)


class _Known(NamedTuple):
    """Hold the joint metadata of all shards; `files` are by array, in order."""

    counts: Mapping[str, int]
    checksum: str
    faults: list[Fault]
    contents: dict[str, Any]
    histograms: dict[str, NDArray[np.int64]]
    files: dict[str, list[str]]


def _known(stage: Path, parts: Iterable[ShardPart], spec: Spec) -> _Known:
    """Write the index, and gather the other metadata of the shards."""
    faults: list[Fault] = []
    contents: dict[str, Any] = {}
    histograms = ShardPart.of(spec).histograms
    files: dict[str, list[str]] = {name: [] for name in spec.shapes}
    with IndexWriter(stage / INDEX, (part.rows for part in parts)) as index:
        for part in parts:
            index.write(part.rows)
            faults += part.faults
            contents |= part.contents
            for name, counts in part.histograms.items():
                histograms[name] += counts
            for name in spec.shapes if part.rows else ():
                files[name].append(part.files[name])
    checksum = samples_checksum(row["checksum"] for part in parts for row in part.rows)
    return _Known(index.counts, checksum, faults, contents, histograms, files)


def _training_statistics(histograms: NDArray[np.int64]) -> dict[str, Any]:
    """Compute a modality's statistics over the training samples; empty if there are none."""
    return statistics(histograms) if histograms.any() else {}


def statistics(histograms: NDArray[np.int64]) -> dict[str, Any]:
    """Compute the exact mean, standard deviation and percentiles of each band from its histogram.

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
    """Compute a percentile as numpy.percentile does, linear between the two nearest ranks."""
    below = np.cumsum(histogram)
    rank = percent / 100 * (int(below[-1]) - 1)
    low, high = np.searchsorted(below, [np.floor(rank), np.ceil(rank)], side="right")
    return float(low + (high - low) * (rank % 1))


def _as_csv(faults: Sequence[Fault]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Fault._fields, *faults])
    return text.getvalue()
