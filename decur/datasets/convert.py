"""Preprocessing: the raw files of a dataset become paired shards."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from decur import datasets
from decur.config import DatasetSettings
from decur.datasets import Record
from decur.errors import DecurError
from decur.provenance import provenance
from decur.shards import Modality, Sample, ShardWriter

CHUNK = 32
"""Samples that a worker reads at a time; bounds the memory that waits for the writer."""


def preprocess(
    name: str, settings: DatasetSettings, raw: Path, out: Path, *, workers: int = 1
) -> None:
    """Convert every sample below `raw` and write the shards folder `out`.

    Raises:
        DecurError: the raw folder is missing or incomplete, or a file in it is damaged.
    """
    manifest = raw / "manifest.json"
    if not manifest.is_file():
        raise DecurError(f"{manifest}: not found; run the download stage for {name} first")
    module = datasets.load(name)
    records = module.scan(raw, settings)
    scenes = _scenes(raw)
    card = {
        "dataset": name,
        "title": module.DATASET.title,
        "licence": module.DATASET.licence,
        "homepage": module.DATASET.homepage,
        "classes": module.DATASET.classes,
        "ignore": module.DATASET.ignore,
        "raw": json.loads(manifest.read_text())["provenance"]["inputs"],
        "provenance": provenance(settings, {}),
    }
    with ShardWriter(out, stored_modalities(name, settings), card) as writer:
        samples = _read_all(name, settings, records, workers)
        for sample in tqdm(samples, total=len(records), desc=name):
            writer.add(_with_factors(sample, scenes, module.DATASET.evaluation))
    print(f"{name}: {len(records)} samples in {out}", flush=True)


def stored_modalities(name: str, settings: DatasetSettings) -> list[Modality]:
    """The modalities to store: those of the settings, or the dataset's first two.

    Raises:
        DecurError: the dataset has no such modality.
    """
    known = {m.name: m for m in datasets.load(name).DATASET.modalities}
    for modality in settings.modalities or ():
        if modality not in known:
            raise DecurError(
                f"datasets.{name}.modalities: no '{modality}'; known are {', '.join(known)}"
            )
    return [known[m] for m in settings.modalities or list(known)[:2]]


def _read_all(
    name: str, settings: DatasetSettings, records: Sequence[Record], workers: int
) -> Iterator[Sample]:
    read = partial(_read_chunk, name, settings)
    chunks = [records[i : i + CHUNK] for i in range(0, len(records), CHUNK)]
    if workers == 1:
        for chunk in chunks:
            yield from read(chunk)
        return
    with ProcessPoolExecutor(workers) as pool:
        for samples in pool.map(read, chunks):
            yield from samples


def _read_chunk(name: str, settings: DatasetSettings, records: Sequence[Record]) -> list[Sample]:
    module = datasets.load(name)
    return [module.read(record, settings) for record in records]


def _scenes(raw: Path) -> dict[str, dict[str, Any]]:
    """Split and factors by sample id, where the raw files are synthetic scenes."""
    path = raw / "scenes.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype={"id": str}).set_index("id")
    return table.to_dict(orient="index")  # type: ignore[return-value]


def _with_factors(sample: Sample, scenes: dict[str, dict[str, Any]], evaluation: str) -> Sample:
    if sample.id not in scenes:
        return sample
    facts = dict(scenes[sample.id])
    split = evaluation if facts.pop("split") == "test" else "train"
    return dataclasses.replace(sample, split=split, factors=facts)
