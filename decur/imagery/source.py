"""Open files by path, on disk or in memory.

Archive members are decoded from memory, under a path that GDAL can open. Writing a member to disk,
opening it there and removing it can take as long as decoding it.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rasterio.io import MemoryFile

MEMORY = Path("/vsimem/decur")
"""Folder of the files in memory. GDAL opens paths below /vsimem; other programs cannot."""

_contents: dict[str, bytes] = {}


@contextmanager
def in_memory(files: Mapping[str, bytes]) -> Iterator[Path]:
    """Provide `files` to the readers below the yielded folder, until the context ends."""
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
    """Return a name that GDAL accepts; readers never ask for a name that this changes."""
    return name.encode(errors="replace").decode()


def is_file(path: Path) -> bool:
    """Return whether a file exists, on disk or in memory."""
    name = str(path)
    return name in _contents if name.startswith(f"{MEMORY}/") else path.is_file()


def names_in(folder: Path) -> list[str]:
    """List the names in a folder, on disk or in memory; raises an OSError if it is missing."""
    above = f"{folder}/"
    held = {path[len(above) :].partition("/")[0] for path in _contents if path.startswith(above)}
    return [*held] or [path.name for path in folder.iterdir()]


def open_file(path: Path) -> IO[bytes]:
    """Open a file, on disk or in memory; raises an OSError if it is missing."""
    content = _contents.get(str(path))
    return path.open("rb") if content is None else io.BytesIO(content)


def read_bytes(path: Path) -> bytes:
    """Read a file, on disk or in memory; raises an OSError if it is missing."""
    with open_file(path) as file:
        return file.read()
