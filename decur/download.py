"""Raw files of a dataset into its official layout: drawn scenes, sample frames, or an archive.

A raw folder is complete once it holds `manifest.json`, which is written last.
"""

import hashlib
import os
import shutil
from pathlib import Path

from decur import datasets
from decur.config import DatasetSettings
from decur.datasets.scenes import write_scenes
from decur.errors import DecurError
from decur.provenance import provenance, write_json

SAMPLES_VARIABLE = "DECUR_SAMPLES"


def download(name: str, settings: DatasetSettings, out: Path, *, workers: int = 1) -> None:
    """Fill the raw folder `out` anew.

    Raises:
        DecurError: the source folder is not given or not there.
    """
    dataset = datasets.load(name)
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        if settings.source == "scenes":
            write_scenes(name, part, settings, workers=workers)
        elif settings.source == "samples":
            dataset.arrange_samples(_samples_folder(name, settings), part)
        else:
            _link_archive(name, settings, part)
        listing = [(str(p.relative_to(part)), p.stat().st_size) for p in _files(part)]
        if not listing:
            raise DecurError(f"datasets.{name}: its source has no file")
        checksum = hashlib.sha256(repr(listing).encode()).hexdigest()[:16]
        size = sum(bytes_ for _, bytes_ in listing)
        origin = provenance(settings, {"files and sizes": checksum})
        write_json(
            part / "manifest.json",
            {"dataset": name, "files": len(listing), "bytes": size, "provenance": origin},
        )
        shutil.rmtree(out, ignore_errors=True)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{name}: {len(listing)} files, {size / 1e6:.1f} MB", flush=True)


def _files(root: Path) -> list[Path]:
    found = []
    for folder, _, names in os.walk(root, followlinks=True):
        found += [Path(folder) / name for name in names]
    return sorted(found)


def _samples_folder(name: str, settings: DatasetSettings) -> Path:
    given = settings.folder or os.environ.get(SAMPLES_VARIABLE)
    if not given:
        raise DecurError(
            f"datasets.{name}.folder: set it, or the variable {SAMPLES_VARIABLE}, to the folder of "
            "the sample frames"
        )
    folder = Path(given).absolute()
    if not folder.is_dir():
        raise DecurError(f"datasets.{name}: the samples folder {folder} does not exist")
    return folder


def _link_archive(name: str, settings: DatasetSettings, out: Path) -> None:
    homepage = datasets.load(name).DATASET.homepage
    if settings.folder is None:
        raise DecurError(
            f"datasets.{name}.folder: set it to the unpacked official archive ({homepage})"
        )
    folder = Path(settings.folder).absolute()
    if not folder.is_dir():
        raise DecurError(f"datasets.{name}.folder: {folder} does not exist; see {homepage}")
    for entry in folder.iterdir():
        (out / entry.name).symlink_to(entry)
