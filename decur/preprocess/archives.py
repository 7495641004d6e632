"""Find the archives that samples are read from, where the download stage left them."""

from pathlib import Path

from decur.artifacts.ownership import is_recorded, remove_entry
from decur.artifacts.paths import archive_folders
from decur.artifacts.records import Manifest
from decur.config import DatasetSettings
from decur.datasets import Dataset
from decur.errors import DecurError
from decur.preprocess.streaming import ArchiveFiles


def find_archives(
    dataset: Dataset, settings: DatasetSettings, raw: Path, manifest: Manifest
) -> list[ArchiveFiles]:
    """Find the listed archives of the raw folder `raw`, in the dataset's order.

    Raises:
        DecurError: an archive is missing, or its size has changed.
    """
    folders = archive_folders(raw, manifest.provenance.settings.get("archives"))
    sizes = {archive.name: archive.bytes for archive in manifest.archives}
    return [
        ArchiveFiles(archive, tuple(_find(part.name, sizes, folders) for part in archive.parts))
        for archive in dataset.archives
        if archive.kind != "file" and archive.splits in ("", settings.splits)
    ]


def _find(name: str, sizes: dict[str, int], folders: list[Path]) -> Path:
    for path in (folder / name for folder in folders):
        if path.is_file() and path.stat().st_size == sizes.get(name):
            return path
    raise DecurError(
        f"{folders[-1] / name}: not found, or not of the expected {sizes.get(name)} bytes; put it "
        "back, or run the download stage again"
    )


def remove_fetched(manifest: Manifest, raw: Path) -> int:
    """Remove the archives that the download stage fetched for `raw`; returns their number.

    Archives that someone else put there, or that have changed since, are kept.
    """
    folder, *_ = archive_folders(raw, None)
    fetched = [folder / archive.name for archive in manifest.archives]
    ours = [path for path in fetched if path.is_file() and is_recorded(path)]
    for path in ours:
        remove_entry(path)
    return len(ours)
