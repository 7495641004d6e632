"""Check in a preflight job the space for results and the links of archives."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from decur.artifacts.files import nearest_folder
from decur.artifacts.paths import Paths
from decur.artifacts.preflight import Check
from decur.config import Config, DatasetSettings
from decur.planning.doctor import still_stored, writable
from decur.planning.quota import Room, rooms

FILES = 1000
"""Upper bound of the files and folders of one dataset, and of all weights and tables together."""

LINKS = 12
"""Most links that are tried per dataset."""

SECONDS = 20
"""Time within which a server must answer."""

ONE_BYTE = {"Range": "bytes=0-0"}

LOGIN = (
    "if nodes have no internet, run downloads on the machine where you start Snakemake: "
    "`snakemake --profile ... --executor local --cores 4 -- download_all`"
)


def storage(config: Config, root: Path) -> Iterator[Check]:
    """Check that the results folder is writable, and that it has enough free space."""
    found = writable(root)
    yield Check.model_validate(asdict(found))
    paths = Paths(str(root.parent), root.name)
    missing = [name for name in config.datasets if not Path(paths.card(name)).is_file()]
    needed = Room("", still_stored(config).stored, (len(missing) + 1) * FILES)
    yield from (_room(room, needed) for room in rooms(nearest_folder(root)))


def _room(room: Room, needed: Room) -> Check:
    """Compare the free space below one limit with the needed space."""
    parts, lacking = [], False
    for there, wanted, unit in (
        (room.gigabytes, needed.gigabytes, "GB"),
        (room.files, needed.files, "files"),
    ):
        if there is not None and wanted is not None:
            parts.append(f"{there:,.0f} {unit} free, {wanted:,.0f} needed")
            lacking = lacking or there < wanted
    found = "; ".join(parts)
    if lacking:
        remedy = "set `results` to a folder on another disk, or ask for a larger quota"
        return Check(subject=room.limit, state="error", found=found, remedy=remedy)
    return Check(subject=room.limit, state="ok", found=found)


def links(config: Config, root: Path) -> Iterator[Check]:
    """Check that the datasets' archives can be reached from here."""
    paths = Paths(str(root.parent), root.name)
    for name, settings in config.datasets.items():
        there = Path(paths.manifest(name)).is_file() or Path(paths.card(name)).is_file()
        if settings.source != "archive" or settings.folder or settings.archives or there:
            yield Check(subject=f"links of {name}", state="ok", found="not needed")
            continue
        yield _reached(name, _urls(name, settings)[:LINKS])


def _urls(name: str, settings: DatasetSettings) -> list[tuple[str, ...]]:
    """List the links of each part of a dataset's archives, the mirror first."""
    from decur import datasets

    archives = datasets.load(name, settings).DATASET.archives
    parts = [part for archive in archives for part in archive.parts]
    if settings.mirror is None:
        return [part.urls for part in parts]
    mirror = settings.mirror.rstrip("/")
    return [(f"{mirror}/{part.name}", *part.urls) for part in parts]


def _reached(name: str, parts: list[tuple[str, ...]]) -> Check:
    """Try the links of each part until one answers."""
    with ThreadPoolExecutor(8) as pool:
        reasons = [*pool.map(_unreachable, parts)]
    failed = [reason for reason in reasons if reason]
    found = f"{len(parts) - len(failed)} of {len(parts)} answer"
    if failed:
        found += f"; {failed[0]}"
        return Check(subject=f"links of {name}", state="error", found=found, remedy=LOGIN)
    return Check(subject=f"links of {name}", state="ok", found=found)


def _unreachable(urls: tuple[str, ...]) -> str:
    """Explain why no link returns its first byte; "" if one does."""
    import requests

    reason = "no link"
    for url in urls:
        try:
            with requests.get(url, headers=ONE_BYTE, timeout=SECONDS, stream=True) as answer:
                if answer.ok:
                    return ""
                reason = f"{url}: {answer.status_code} {answer.reason}"
        except requests.RequestException as error:
            reason = f"{url}: {type(error).__name__}"
    return reason
