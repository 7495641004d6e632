"""Fill a dataset's raw folder in its official layout.

The source is drawn scenes, sample frames, own folders, or archives, which are listed or unpacked. A
raw folder is complete when it contains `manifest.json`, which is written last.
"""

from collections.abc import Sequence
from pathlib import Path

from decur import datasets
from decur.artifacts.ownership import HIDDEN, OwnFolder
from decur.artifacts.paths import MANIFEST
from decur.artifacts.provenance import provenance
from decur.artifacts.records import Manifest, Source, StoredArchive
from decur.artifacts.sources import content, contents
from decur.artifacts.timing import JobTimer
from decur.config import DatasetSettings
from decur.config.source_paths import SAMPLES_VARIABLE, given_paths, samples_folder
from decur.download.archives import listed_contents, store_archives
from decur.download.verify import Stored
from decur.errors import DecurError
from decur.scenes.draw import write_scenes

PACKAGES = ("numpy", "scipy", "rasterio", "h5py", "pillow")


def download(name: str, settings: DatasetSettings, out: Path, *, workers: int = 1) -> None:
    """Fill the raw folder `out` from scratch.

    Raises:
        DecurError: the source folder is not set or does not exist, an archive cannot be fetched
            completely, or `out` contains foreign files.
    """
    job = JobTimer()
    raw = OwnFolder(out, MANIFEST)
    raw.check()
    _check_apart(name, settings, out)
    if settings.source == "archive" and settings.folder is None:
        staged, archives = store_archives(datasets.load(name).DATASET, settings, raw)
        _finish(name, settings, raw, staged, job, archives=archives)
        return
    folder = None
    if settings.source == "samples":
        folder = _samples_folder(name, settings)
    elif settings.source == "archive":
        folder = _unpacked_folder(name, settings, out)
    staged = raw.stage()
    try:
        if settings.source == "scenes":
            write_scenes(name, staged, settings, workers=workers)
        elif folder is None:
            datasets.load(name, settings).arrange_samples(Path.cwd(), staged)
        elif settings.source == "samples":
            datasets.load(name, settings).arrange_samples(folder, staged)
        else:
            for entry in folder.iterdir():
                if entry.name != HIDDEN:  # belongs to an earlier raw folder
                    (staged / entry.name).symlink_to(entry)
        _finish(name, settings, raw, staged, job, folder=folder)
    finally:
        raw.discard()


def _check_apart(name: str, settings: DatasetSettings, out: Path) -> None:
    """Refuse a source inside the raw folder, whose content is replaced.

    Raises:
        DecurError: the source is inside; the error names it.
    """
    for key in ("folder", "archives"):
        given = getattr(settings, key)
        if given is not None and Path(given).resolve().is_relative_to(out.resolve()):
            raise DecurError(
                f"datasets.{name}.{key}: {given} is inside {out}, whose content is replaced; "
                "choose another --out"
            )


def _finish(
    name: str,
    settings: DatasetSettings,
    raw: OwnFolder,
    staged: Path,
    job: JobTimer,
    *,
    archives: Sequence[Stored] = (),
    folder: Path | None = None,
) -> None:
    """Move what is staged into the raw folder, with its manifest.

    `archives` or `folder` is its source, unless it was filled with scenes.
    """
    (staged / MANIFEST).unlink(missing_ok=True)  # of a run that was killed in the last steps
    listed = archives and not settings.unpack
    found = listed_contents(staged, archives) if listed else contents(staged)
    if not found.files:
        raise DecurError(f"datasets.{name}: its source contains no file; check its folder")
    names = [entry.name for entry in sorted(staged.iterdir())]
    inputs = {file.path.name: file.checksum for file in archives}
    chosen = settings.model_dump(mode="json", exclude_unset=True)
    manifest = Manifest(
        dataset=name,
        files=found.files,
        bytes=found.bytes,
        archives=tuple(
            StoredArchive(
                name=file.path.name, bytes=file.size, checksum=file.checksum, urls=tuple(file.urls)
            )
            for file in archives
        ),
        folder=None if folder is None else str(folder),
        sources={
            key: Source(
                path=path,
                content=found.digest if _is_linked(settings, key) else content(path),
            )
            for key, path in given_paths(settings).items()
        },
        provenance=provenance(chosen, inputs or {"files and sizes": found.digest}, PACKAGES),
        job=job.record(),
    )
    manifest.write(staged / MANIFEST)
    raw.put_in_place(staged, names)
    print(f"{name}: {found.files} files, {found.bytes / 1e6:.1f} MB", flush=True)


def _is_linked(settings: DatasetSettings, key: str) -> bool:
    """Return whether a source's files are those of the raw folder, which are listed already."""
    return settings.source == "archive" and key == "folder"


def _samples_folder(name: str, settings: DatasetSettings) -> Path:
    given = samples_folder(settings)
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
            f"datasets.{name}.folder: {folder} contains {out}, which would link to itself; choose "
            "another --out"
        )
    return folder
