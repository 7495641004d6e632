"""A dataset's archives: fetched or found, checked, and unpacked in a stage of the raw folder.

Archives stay in `<raw>.archives`. The stage that they are unpacked in has the name of their
identity and outlives a kill: the next run finishes it if the archives are still the same, and
removes it if not.
"""

import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from decur.artifacts.files import nearest_folder
from decur.artifacts.ownership import HIDDEN, OwnFolder
from decur.config import DatasetSettings
from decur.datasets import Archive, Dataset, Part
from decur.download.fetch import FetchError, fetch_all, size_on_server
from decur.download.unpack import unpack
from decur.download.verify import Stored
from decur.errors import DecurError


def unpack_archives(
    dataset: Dataset, settings: DatasetSettings, raw: OwnFolder
) -> tuple[Path, list[Stored]]:
    """Bring, check and unpack all archives of a dataset.

    Args:
        dataset: the dataset; its `archives` say what is needed.
        settings: mirror, checksums, folder of archives that are there already.
        raw: the raw folder to be; archives are kept beside it.

    Returns:
        The stage with the raw files, and the archives that they are from.

    Raises:
        DecurError: an archive cannot be had or is damaged, or the disk is too small.
    """
    key, out = f"datasets.{dataset.name}", raw.path
    archives = _resolve(dataset, settings, key)
    given = None if settings.archives is None else Path(settings.archives).absolute()
    if given is not None and not given.is_dir():
        raise DecurError(f"{key}.archives (--from): the folder {given} does not exist")
    parts = [part for archive in archives for part in archive.parts]
    folder = out.with_name(f"{out.name}.archives")
    sizes = {part.name: _size(part, folder, given) for part in parts}
    _check_space(out, _bytes_below(folder), sizes, given)
    try:
        total = sum(size or 0 for size in sizes.values())
        stored = fetch_all(parts, folder, given=given, total=total or None)
    except FetchError as error:
        raise DecurError(f"{error}; {_by_hand(error.name, dataset, archives)}") from None
    paths = {part.name: file.path for part, file in zip(parts, stored, strict=True)}
    unpacked = raw.stage(_identity(archives, stored), keep=True)
    for archive in archives:
        unpack(archive, [paths[part.name] for part in archive.parts], unpacked)
    return unpacked, stored


def read_checksums(path: Path) -> dict[str, str]:
    """Checksum of each file name in a list as `sha256sum` writes it.

    Raises:
        DecurError: the list is missing, or a line of it is no such line.
    """
    if not path.is_file():
        raise DecurError(f"{path}: no such list of checksums; make it with sha256sum")
    checksums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        found = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line)
        if found is None:
            raise DecurError(f"{path}:{number}: not a line of sha256sum; make the list again")
        checksums[Path(found[2]).name] = f"sha256:{found[1].lower()}"
    return checksums


def _resolve(dataset: Dataset, settings: DatasetSettings, key: str) -> list[Archive]:
    """The archives with the mirror before their URLs, and the checksums in force."""
    if not dataset.archives:
        raise DecurError(f"{key}.folder: set it to the unpacked archive ({dataset.homepage})")
    checksums = None if settings.checksums is None else read_checksums(Path(settings.checksums))

    def resolve(part: Part) -> Part:
        if settings.mirror is not None:
            urls = (f"{settings.mirror.rstrip('/')}/{part.name}", *part.urls)
            part = dataclasses.replace(part, urls=urls)
        if checksums is None:
            return part
        if part.name not in checksums:
            raise DecurError(f"{key}.checksums: {settings.checksums} has no {part.name}; add it")
        return dataclasses.replace(part, size=None, checksum=checksums[part.name])

    return [
        dataclasses.replace(archive, parts=tuple(resolve(part) for part in archive.parts))
        for archive in dataset.archives
        if archive.splits in ("", settings.splits)
    ]


def _size(part: Part, folder: Path, given: Path | None) -> int | None:
    """Size of a part: of the file that is there, as published, or as the server says."""
    for path in ([given / part.name] if given else []) + [folder / part.name]:
        if path.is_file():
            return path.stat().st_size
    return size_on_server(part) if part.size is None else part.size


def _check_space(
    out: Path, present: int, sizes: Mapping[str, int | None], given: Path | None
) -> None:
    """Refuse to begin what cannot end: unpacked, an archive takes at least its own size.

    Raises:
        DecurError: the disk is too small.
    """
    archives = sum(size or 0 for size in sizes.values())
    fetched = sum(
        size or 0 for name, size in sizes.items() if given is None or not (given / name).is_file()
    )
    unpacked = _bytes_below(out / HIDDEN)
    out.parent.mkdir(parents=True, exist_ok=True)
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    # A raw folder that is a link may be on another disk than the archives beside it.
    for place, more in (
        (out.parent, max(fetched - present, 0)),
        (nearest_folder(out.resolve()), max(archives - unpacked, 0)),
    ):
        disk = place.stat().st_dev
        places.setdefault(disk, place)
        needed[disk] = needed.get(disk, 0) + more
    for disk, place in places.items():
        free = shutil.disk_usage(place).free
        if needed[disk] > free:
            raise DecurError(
                f"{place}: {needed[disk] / 1e9:.1f} GB more are needed (archives "
                f"{fetched / 1e9:.1f} GB and at least {archives / 1e9:.1f} GB unpacked), "
                f"{free / 1e9:.1f} GB are free; set 'results' to a larger disk"
            )


def _by_hand(name: str, dataset: Dataset, archives: Sequence[Archive]) -> str:
    """What to fetch where, when the part `name` cannot be had."""
    (archive,) = (a for a in archives if name in [part.name for part in a.parts])
    names = ", ".join(part.name for part in archive.parts)
    return (
        f"run again to go on, or fetch {names} by hand from {archive.page or dataset.homepage} and "
        f"give their folder as --from (datasets.{dataset.name}.archives)"
    )


def _identity(archives: Sequence[Archive], stored: Sequence[Stored]) -> str:
    """Name what is unpacked from archives: other archives, or other places, give another name."""
    places = [(archive.kind, archive.into, archive.strip) for archive in archives]
    text = repr((places, [file.checksum for file in stored]))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _bytes_below(folder: Path) -> int:
    return sum(
        (Path(root) / name).stat().st_size for root, _, names in os.walk(folder) for name in names
    )
