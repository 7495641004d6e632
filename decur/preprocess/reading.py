"""Read one sample, from real images or synthetic scenes."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from decur import datasets
from decur.artifacts.files import check_readable
from decur.config import DatasetSettings
from decur.datasets import Record
from decur.datasets.raw_files import stored_modalities
from decur.errors import DecurError
from decur.shards import Modality, Sample
from decur.shards.sample import TRAIN


def source_of(record: Record) -> str:
    """Return a file or folder of a record, or its id."""
    return str(next(iter(record.paths.values()), record.id))


@dataclass(frozen=True)
class Reader:
    """Read samples in a worker; `scenes` has split and factors by id of synthetic ones."""

    name: str
    settings: DatasetSettings
    scenes: Mapping[str, Mapping[str, Any]]

    @property
    def skips(self) -> bool:
        """Return whether bad samples are left out."""
        return self.settings.bad_samples == "skip"

    def split(self, record: Record) -> str:
        """Return the split of a sample."""
        if record.id not in self.scenes:
            return record.split
        evaluation = datasets.load(self.name, self.settings).DATASET.evaluation
        return evaluation if self.scenes[record.id]["split"] == "test" else TRAIN

    def __call__(self, record: Record) -> Sample:
        """Read a sample.

        Raises:
            DecurError: the sample is bad.
            UnreadableError: one of its files cannot be read, which does not make it bad.
        """
        if record.fault:
            raise DecurError(record.fault)
        module = datasets.load(self.name, self.settings)
        try:
            sample = module.read(record, self.settings)
        except DecurError:
            for path in record.paths.values():
                check_readable(path)
            raise
        if sample.id not in self.scenes:
            return sample
        factors = {k: v for k, v in self.scenes[sample.id].items() if k != "split"}
        return dataclasses.replace(sample, split=self.split(record), factors=factors)


def scenes_in(raw: Path) -> dict[str, dict[str, Any]]:
    """Read the split and factors of each synthetic scene in a raw folder, by id."""
    path = raw / "scenes.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype={"id": str}).set_index("id")
    return table.to_dict(orient="index")  # type: ignore[return-value]


def modalities_of(reader: Reader) -> list[Modality]:
    """Return the modalities to store: those in the settings, or the dataset's first two.

    Raises:
        DecurError: the dataset does not have a modality.
    """
    dataset = datasets.load(reader.name, reader.settings).DATASET
    known = {modality.name: modality for modality in dataset.modalities}
    return [known[wanted] for wanted in stored_modalities(dataset, reader.settings)]
