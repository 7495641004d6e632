"""Open files by their paths, on disk or in memory.

A file of an archive is decoded once, from memory, where it has a path that GDAL can open: to write
it to disk, open it there and remove it can take as long as to decode it.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rasterio.io import MemoryFile

MEMORY = Path("/vsimem/decur")
"""The folder of the files in memory: GDAL opens what is below /vsimem, and nothing else can."""

_contents: dict[str, bytes] = {}


@contextmanager
def in_memory(files: Mapping[str, bytes]) -> Iterator[Path]:
    """Let readers find `files`, by their paths below the folder that this gives, until it ends."""
    with ExitStack() as held:
        held.callback(_contents.clear)
        for path, content in files.items():
            place = MEMORY / path
            inside = f"{place.parent.relative_to('/vsimem')}"
            held.enter_context(
                MemoryFile(content, dirname=_in_utf8(inside), filename=_in_utf8(place.name))
            )
            _contents[str(place)] = content
        yield MEMORY


def _in_utf8(name: str) -> str:
    """A name that GDAL can have; no reader asks for a file of another."""
    return name.encode(errors="replace").decode()


def is_file(path: Path) -> bool:
    """Whether there is such a file, on disk or in memory."""
    name = str(path)
    return name in _contents if name.startswith(f"{MEMORY}/") else path.is_file()


def names_in(folder: Path) -> list[str]:
    """Names in a folder, on disk or in memory; raises an OSError without it."""
    above = f"{folder}/"
    held = {path[len(above) :].partition("/")[0] for path in _contents if path.startswith(above)}
    return [*held] or [path.name for path in folder.iterdir()]


def open_file(path: Path) -> IO[bytes]:
    """Open a file, on disk or in memory; raises an OSError without it."""
    content = _contents.get(str(path))
    return path.open("rb") if content is None else io.BytesIO(content)


def read_bytes(path: Path) -> bytes:
    """The content of a file, on disk or in memory; raises an OSError without it."""
    with open_file(path) as file:
        return file.read()
