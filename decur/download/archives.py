"""Fetch or find a dataset's archives, check them, and list or unpack them in a staging folder.

Archives stay in `<raw>.archives`. The staging folder of the raw folder is named after the identity
of the archives and survives a kill. The next run continues in it if the archives are the same, and
otherwise removes it.
"""

import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from decur.artifacts.files import nearest_folder, writing
from decur.artifacts.ownership import HIDDEN, OwnFolder
from decur.artifacts.paths import archive_folders
from decur.artifacts.sources import Contents
from decur.cluster.progress import byte_bar
from decur.config import DatasetSettings
from decur.datasets import Archive, Dataset, RemoteFile
from decur.datasets.listing import LISTING, ListingWriter
from decur.datasets.members import members, naming_damage
from decur.download.fetch import FetchError, fetch_all, size_on_server
from decur.download.unpack import unpack
from decur.download.verify import Stored
from decur.errors import DecurError

MOST_SCANNED = 1 << 20
"""Largest number of bytes kept of a file that a scan needs."""


def store_archives(
    dataset: Dataset, settings: DatasetSettings, raw: OwnFolder
) -> tuple[Path, list[Stored]]:
    """Fetch and check all archives of a dataset, and list or unpack their members.

    If archives are listed, a plain file becomes a link in the raw folder.

    Args:
        dataset: the dataset, with the `archives` it needs.
        settings: mirror, checksums, folder of existing archives, and whether to unpack.
        raw: the future raw folder; archives are kept beside it.

    Returns:
        The staging folder with the list or the raw files, and the archives they come from.

    Raises:
        DecurError: an archive cannot be fetched or is damaged, or the disk is too small.
    """
    key, out = f"datasets.{dataset.name}", raw.path
    archives = _resolve(dataset, settings, key)
    given = None if settings.archives is None else Path(settings.archives).absolute()
    if given is not None and not given.is_dir():
        raise DecurError(f"{key}.archives (--from): the folder {given} does not exist")
    parts = [part for archive in archives for part in archive.parts]
    folder, *_ = archive_folders(out, None)
    sizes = {part.name: _size(part, folder, given) for part in parts}
    _check_space(out, _bytes_below(folder), sizes, given, unpack=settings.unpack)
    try:
        total = sum(size or 0 for size in sizes.values())
        stored = fetch_all(parts, folder, given=given, total=total or None)
    except FetchError as error:
        raise DecurError(f"{error}; {_by_hand(error.name, dataset, archives)}") from None
    paths = {part.name: file.path for part, file in zip(parts, stored, strict=True)}
    staged = raw.stage(_identity(archives, stored, settings.unpack), keep=True)
    store = unpack if settings.unpack else partial(_list_or_link, out)
    for archive in archives:
        store(archive, [paths[part.name] for part in archive.parts], staged)
    return staged, stored


def _list_or_link(out: Path, archive: Archive, files: Sequence[Path], staged: Path) -> None:
    """List the members of an archive in the staging folder, once; link to a plain file."""
    if archive.kind == "file":
        link = staged / archive.into / files[0].name
        with writing(staged):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(_seen_from(out.resolve(), archive.into, files[0].resolve()))
        return
    with writing(staged), ListingWriter(staged / LISTING) as listing:
        if files[0].name not in listing.archives:
            _list(archive, files, listing)


def listed_contents(staged: Path, stored: Sequence[Stored]) -> Contents:
    """Return the files, bytes and digest of archives that are listed in a staging folder."""
    found: list[tuple[int, int]] = []
    if (staged / LISTING).is_file():
        with ListingWriter(staged / LISTING) as listing:
            found += listing.archives.values()
    links = {path.name for path in staged.rglob("*") if path.is_symlink()}
    found += [(1, file.size) for file in stored if file.path.name in links]
    files, sizes = zip(*found, strict=True)
    digest = hashlib.sha256(repr([file.checksum for file in stored]).encode())
    return Contents(sum(files), sum(sizes), digest.hexdigest()[:16])


def _seen_from(root: Path, folder: str, file: Path) -> Path:
    """Return the link target for a file, as written in a folder of the raw folder `root`.

    It is relative if the file is beside the raw folder, so that both can be moved together.
    """
    beside = file.is_relative_to(root.parent)
    return Path(os.path.relpath(file, root / folder)) if beside else file


def _list(archive: Archive, files: Sequence[Path], listing: ListingWriter) -> None:
    total = sum(file.stat().st_size for file in files)
    name = files[0].name
    with (
        byte_bar(f"list {name}", total) as bar,
        naming_damage(files[0]),
        listing.archive(name) as adding,
    ):
        for member in members(archive, files, bar.update):
            adding.add(member.path, member.size)
            if archive.scanned and member.path.endswith(archive.scanned):
                with member.open() as content:
                    adding.keep(member.path, content.read(MOST_SCANNED))


def read_checksums(path: Path) -> dict[str, str]:
    """Read the checksum of each file name in a list written by `sha256sum`.

    Raises:
        DecurError: the list is missing, or contains a line of another format.
    """
    if not path.is_file():
        raise DecurError(f"{path}: list of checksums not found; make it with sha256sum")
    checksums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        found = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line)
        if found is None:
            raise DecurError(f"{path}:{number}: not a line of sha256sum; make the list again")
        checksums[Path(found[2]).name] = f"sha256:{found[1].lower()}"
    return checksums


def _resolve(dataset: Dataset, settings: DatasetSettings, key: str) -> list[Archive]:
    """Return the archives with the mirror before their URLs, and the checksums to use."""
    if not dataset.archives:
        raise DecurError(f"{key}.folder: set it to the unpacked archive ({dataset.homepage})")
    checksums = None if settings.checksums is None else read_checksums(Path(settings.checksums))

    def resolve(part: RemoteFile) -> RemoteFile:
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


def _size(part: RemoteFile, folder: Path, given: Path | None) -> int | None:
    """Find the size of a part: of the existing file, as published, or as the server states."""
    for path in ([given / part.name] if given else []) + [folder / part.name]:
        if path.is_file():
            return path.stat().st_size
    return size_on_server(part) if part.size is None else part.size


def _check_space(
    out: Path,
    present: int,
    sizes: Mapping[str, int | None],
    given: Path | None,
    *,
    unpack: bool,
) -> None:
    """Refuse to start if space is lacking: unpacked, an archive takes at least its own size.

    Raises:
        DecurError: the disk is too small.
    """
    archives = sum(size or 0 for size in sizes.values()) if unpack else 0
    fetched = sum(
        size or 0 for name, size in sizes.items() if given is None or not (given / name).is_file()
    )
    unpacked = _bytes_below(out / HIDDEN)
    out.parent.mkdir(parents=True, exist_ok=True)
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    # If the raw folder is a link, it may be on another disk than the archives beside it.
    for place, more in (
        (out.parent, max(fetched - present, 0)),
        (nearest_folder(out.resolve()), max(archives - unpacked, 0)),
    ):
        disk = place.stat().st_dev
        places.setdefault(disk, place)
        needed[disk] = needed.get(disk, 0) + more
    unpacking = f" and at least {archives / 1e9:.1f} GB unpacked" if unpack else ""
    for disk, place in places.items():
        free = shutil.disk_usage(place).free
        if needed[disk] > free:
            raise DecurError(
                f"{place}: needs {needed[disk] / 1e9:.1f} GB more (archives "
                f"{fetched / 1e9:.1f} GB{unpacking}), but only {free / 1e9:.1f} GB are free; set "
                "'results' to a larger disk"
            )


def _by_hand(name: str, dataset: Dataset, archives: Sequence[Archive]) -> str:
    """Explain which files to fetch manually if the part `name` cannot be fetched."""
    (archive,) = (a for a in archives if name in [part.name for part in a.parts])
    names = ", ".join(part.name for part in archive.parts)
    return (
        f"run again to continue, or fetch {names} by hand from "
        f"{archive.page or dataset.homepage} and give their folder as --from "
        f"(datasets.{dataset.name}.archives)"
    )


def _identity(archives: Sequence[Archive], stored: Sequence[Stored], unpack: bool) -> str:
    """Name a staging folder by its archives, where their members go, and if they are unpacked."""
    places = [(archive.kind, archive.into, archive.strip) for archive in archives]
    text = repr((places, [file.checksum for file in stored], unpack))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _bytes_below(folder: Path) -> int:
    return sum(
        (Path(root) / name).lstat().st_size for root, _, names in os.walk(folder) for name in names
    )
