"""Read BigEarthNet v2.0 (reBEN): reprocessed level 2A patches, with new labels and splits.

Layout: `BigEarthNet-S1/<scene>/<S1 patch>/` and `BigEarthNet-S2/<scene>/<S2 patch>/`, with one
GeoTIFF per band, and `metadata.parquet` with one row per pair: its 19-class labels and split. The
paper used v1.0, so results on v2.0 are not comparable with the paper's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decur.config import DatasetSettings
from decur.datasets import (
    Archive,
    Component,
    Dataset,
    Record,
    Records,
    RemoteFile,
    Streamed,
)
from decur.datasets.bigearthnet import (
    CORINE,
    HIDDEN,
    SAR_MEAN,
    SAR_STD,
    join_pair,
    read_sensor,
    shapes,
)
from decur.datasets.raw_files import below, raw_files, stored_modalities
from decur.datasets.sentinel import OPTICAL, sar_modality
from decur.errors import DecurError
from decur.shards import Sample

__all__ = ["DATASET", "STREAMED", "arrange_samples", "read", "scan"]

METADATA = "metadata.parquet"
COLUMNS = ("patch_id", "s1_name", "labels", "split", "country")
SPLITS = {"train": "train", "validation": "val", "test": "test"}
FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")
COPY = "https://hf.co/datasets/torchgeo/bigearthnet/resolve/3cf3a5910a5302d449fdb8e570e5b78de24fe07f/V2"
PAGE = "https://hf.co/datasets/torchgeo/bigearthnet"


def _parts(name: str, *checksums: str) -> tuple[RemoteFile, ...]:
    names = [f"{name}a{letter}" for letter, _ in zip("abc", checksums, strict=False)]
    return tuple(
        RemoteFile(part, (f"{COPY}/{part}",), checksum=f"md5:{md5}")
        for part, md5 in zip(names, checksums, strict=True)
    )


SAR_PARTS = _parts(
    "BigEarthNet-S1.tar.gz", "039b9ce305fc6582b2c3d60d1573f5b7", "e94f0ea165d04992ca91d8e58e82ec6d"
)
OPTICAL_PARTS = _parts(
    "BigEarthNet-S2.tar.gz", "94e8ed32065234d3ab46353d814778d1", "24c223d9e36166136c13b24a27debe34"
)
METADATA_PART = RemoteFile(
    METADATA, (f"{COPY}/{METADATA}",), checksum="md5:55687065e77b6d0b0f1ff604a6e7b49c"
)

DATASET = Dataset(
    name="bigearthnet-v2",
    title="BigEarthNet v2.0",
    modalities=(sar_modality(SAR_MEAN, SAR_STD), OPTICAL),
    licence="CDLA-Permissive-1.0",
    homepage="https://bigearth.net",
    classes=tuple(CORINE),
    archives=(
        Archive(SAR_PARTS, "tar", page=PAGE),
        Archive(OPTICAL_PARTS, "tar", page=PAGE),
        Archive((METADATA_PART,), "file", page=PAGE),
    ),
)


def scan(root: Path, settings: DatasetSettings) -> Records:
    """List the pairs of the metadata in their splits, without those with snow, clouds or shadow.

    The settings can keep these. A pair has a fault if one of its patches is missing.

    Raises:
        DecurError: the metadata is missing, damaged, or not that of BigEarthNet v2.0.
    """
    metadata = root / METADATA
    files = raw_files(root)
    table = _metadata(metadata)
    hidden = _hidden(metadata, table) if settings.snow_and_clouds == "skip" else set()

    def record(row: Any) -> Record:
        paths = {
            "sar": below(root / "BigEarthNet-S1", _in_tile(row.s1_name, 3), metadata),
            "optical": below(root / "BigEarthNet-S2", _in_tile(row.patch_id, 2), metadata),
        }
        missing = [path for path in paths.values() if not files.is_folder(path)]
        return Record(
            row.patch_id,
            SPLITS[row.split],
            {**paths, "metadata": metadata},
            place=row.country,
            labels=tuple(row.labels),
            fault=f"{missing[0]}: not found, but {METADATA} names it" if missing else "",
        )

    wanted = table[~table["patch_id"].isin(hidden)].sort_values("patch_id", kind="stable")
    return Records(map(record, wanted.itertuples()), {HIDDEN: len(hidden)})


def read(record: Record, settings: DatasetSettings) -> Sample:
    """Read one pair of patches with its 19-class label vector.

    Raises:
        DecurError: a file is missing, damaged, without data or of the wrong size, type or place, or
            a label is unknown.
    """
    return STREAMED.sample(record, settings)


def _components(record: Record, settings: DatasetSettings) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in stored_modalities(DATASET, settings)}


def _join(record: Record, components: Mapping[str, Component], settings: DatasetSettings) -> Sample:
    return join_pair(record, components, settings, _label_vector(record))


STREAMED = Streamed(shapes, _components, read_sensor, _join)


def _in_tile(patch: str, parts: int) -> str:
    """Return the path of a patch in its tile's folder: the patch name without its last parts."""
    return f"{patch.rsplit('_', parts)[0]}/{patch}"


def _label_vector(record: Record) -> NDArray[np.uint8]:
    unknown = [label for label in record.labels if label not in DATASET.classes]
    if unknown:
        path = record.paths["metadata"]
        raise DecurError(f"{path}: label {unknown[0]!r} of {record.id} is none of the 19 classes")
    return np.array([name in record.labels for name in DATASET.classes], np.uint8)


def _hidden(path: Path, table: Any) -> set[str]:
    """Read the patches under snow, clouds or shadow."""
    if absent := [flag for flag in FLAGS if flag not in table]:
        raise DecurError(
            f"{path}: no column '{absent[0]}'; fetch BigEarthNet v2.0's metadata from "
            f"{METADATA_PART.urls[0]}, or set `snow_and_clouds: keep`, which changes the results"
        )
    return set(table["patch_id"][table[list(FLAGS)].any(axis=1)])


def _metadata(path: Path) -> Any:
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DecurError(f"{path}: cannot be read ({error}); fetch it again") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DecurError(f"{path}: no column '{missing[0]}'; fetch BigEarthNet v2.0's metadata")
    other = set(table["split"]) - set(SPLITS)
    if other:
        raise DecurError(f"{path}: split {min(map(str, other))!r}; expected {', '.join(SPLITS)}")
    return table


def arrange_samples(samples: Path, root: Path) -> None:
    """Refuse: the sample frames of v2.0 belong to three different pairs and form no sample.

    Raises:
        DecurError: always.
    """
    raise DecurError(f"{samples}: contains no pair of BigEarthNet v2.0; set 'source: archive'")
