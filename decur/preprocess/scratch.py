"""Buffer archive members until all members of their group have arrived.

They are written to a folder for temporary files, because members of other groups may come in
between. Each group has one file with one member after the other, because many small files would
take longer to create.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from decur.artifacts.files import remove, remove_left_over, temporary_of, write_all, writing
from decur.datasets.members import CHUNK, Member
from decur.preprocess.groups import Group


@contextmanager
def scratch() -> Iterator[Path]:
    """Create a temporary folder (in `TMPDIR`); those of killed processes are removed."""
    own = Path(tempfile.gettempdir(), f"decur-{os.getuid()}")
    folder = temporary_of(own)
    with writing(folder):
        remove_left_over(own)
        remove(folder)  # left by a killed process with the same number
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove(folder)


class Waiting:
    """Store arrived members in `folder`; only the file of the last member's group stays open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._group: Group | None = None
        self._file: BinaryIO | None = None

    def add(self, group: Group, member: Member) -> None:
        """Append a member to the file of its group.

        Raises:
            DecurError: the disk is full.
        """
        size, file = 0, self._opened(group)
        with member.open() as source:
            while chunk := source.read(CHUNK):
                size += len(chunk)
                with writing(self._folder):
                    write_all(file, chunk)
        group.members.append((member.path, size))

    def whole(self, group: Group) -> Path:
        """Return the file of a group that has all its members."""
        self.close()
        return self._path(group)

    def close(self) -> None:
        """Close the open file."""
        if self._file is not None:
            self._file.close()
        self._group = self._file = None

    def _opened(self, group: Group) -> BinaryIO:
        if self._file is None or group is not self._group:
            self.close()
            with writing(self._folder):
                self._file = self._path(group).open("ab", buffering=0)
            self._group = group
        return self._file

    def _path(self, group: Group) -> Path:
        return self._folder / f"{group.number}"


def contents(path: Path, group: Group) -> dict[str, bytes]:
    """Read the members of a group from its file, by their paths below the raw folder."""
    with path.open("rb") as file:
        return {member: file.read(size) for member, size in group.members}
