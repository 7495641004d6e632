"""Raw files of a dataset into its official layout: drawn scenes, sample frames, own
folders, or an archive.

A raw folder is complete once it holds `manifest.json`, which is written last.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from decur import datasets
from decur.config import DatasetSettings
from decur.datasets.scenes import write_scenes
from decur.download.archives import unpack_archives
from decur.download.fetch import Stored
from decur.errors import DecurError
from decur.job import Job
from decur.provenance import provenance, write_json

MANIFEST = "manifest.json"
PACKAGES = ("numpy", "scipy", "rasterio", "h5py", "pillow")
SAMPLES_VARIABLE = "DECUR_SAMPLES"


def download(name: str, settings: DatasetSettings, out: Path, *, workers: int = 1) -> None:
    """Fill the raw folder `out` anew.

    Raises:
        DecurError: the source folder is not given or not there, or an archive cannot be had whole.
    """
    job = Job()
    if settings.source == "archive" and settings.folder is None:
        filled, archives = unpack_archives(datasets.load(name).DATASET, settings, out)
        _finish(name, settings, filled, out, job, archives=archives)
        return
    folder = None
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        if settings.source == "scenes":
            write_scenes(name, part, settings, workers=workers)
        elif settings.source == "samples":
            folder = _samples_folder(name, settings)
            datasets.load(name).arrange_samples(folder, part)
        elif settings.source == "folders":
            datasets.load(name, settings).arrange_samples(Path.cwd(), part)
        else:
            folder = _unpacked_folder(name, settings, part)
            for entry in folder.iterdir():
                (part / entry.name).symlink_to(entry)
        _finish(name, settings, part, out, job, folder=folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _finish(
    name: str,
    settings: DatasetSettings,
    filled: Path,
    out: Path,
    job: Job,
    *,
    archives: Sequence[Stored] = (),
    folder: Path | None = None,
) -> None:
    """Make a filled folder the raw folder: its manifest goes first and comes last.

    `archives` or a `folder` are what it was filled from, if not with scenes.
    """
    listing = [(str(p.relative_to(filled)), p.stat().st_size) for p in _files(filled)]
    if not listing:
        raise DecurError(f"datasets.{name}: its source has no file")
    size = sum(bytes_ for _, bytes_ in listing)
    (out / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    filled.rename(out)
    inputs = {"files and sizes": hashlib.sha256(repr(listing).encode()).hexdigest()[:16]}
    inputs |= {file.path.name: file.checksum for file in archives}
    chosen = settings.model_dump(mode="json", exclude_unset=True)
    manifest = {
        "dataset": name,
        "files": len(listing),
        "bytes": size,
        "archives": [
            {
                "name": file.path.name,
                "bytes": file.size,
                "checksum": file.checksum,
                "urls": file.urls,
            }
            for file in archives
        ],
        "folder": None if folder is None else str(folder),
        "provenance": provenance(chosen, inputs, PACKAGES),
        "job": job.record(),
    }
    write_json(out / MANIFEST, manifest)
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


def _unpacked_folder(name: str, settings: DatasetSettings, out: Path) -> Path:
    folder = Path(settings.folder or "").absolute()
    if not folder.is_dir():
        homepage = datasets.load(name).DATASET.homepage
        raise DecurError(f"datasets.{name}.folder: {folder} does not exist; see {homepage}")
    if out.absolute().resolve().is_relative_to(folder.resolve()):
        raise DecurError(
            f"datasets.{name}.folder: {folder} holds {out}, which would link to itself"
        )
    return folder
