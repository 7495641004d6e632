"""Room for results: of the disk, of its inodes, and of the user's quota."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from decur.cluster.lock import user_name

GB = 1e9
KIB = 1024
ROW = re.compile(r"(\S+)\s+(\d+)\*?\s+(\d+)\s+(\d+)\s+(\S+)\s+(\d+)\*?\s+(\d+)\s+(\d+)\s+(\S+)")
"""A row of `quota` and of `lfs quota`: file system; KiB used, quota, limit and grace; the same of
files. Rows of a long name are broken into two lines."""


@dataclass(frozen=True)
class Room:
    """Room below one limit: GB and files that may still be written, None where unlimited."""

    limit: str
    gigabytes: float | None
    files: int | None


def rooms(folder: Path) -> list[Room]:
    """Return the room in a folder that exists: of its disk, and of quotas as far as known."""
    found = os.statvfs(folder)
    files = found.f_favail if found.f_files else None  # some file systems do not count them
    disk = Room("file system", found.f_bavail * found.f_frsize / GB, files)
    return [disk, *parse_quota(_quota(folder))]


def parse_quota(text: str) -> Iterator[Room]:
    """Read the rooms that `quota -p -w` or `lfs quota` prints."""
    for name, *numbers in ROW.findall(text):
        used, soft, hard, _, files, files_soft, files_hard, _ = numbers
        space, count = _left(used, soft, hard), _left(files, files_soft, files_hard)
        if space is not None or count is not None:
            yield Room(f"quota of {name}", None if space is None else space * KIB / GB, count)


def _left(used: str, soft: str, hard: str) -> int | None:
    """Subtract what is used from the smaller limit; a limit of 0 is none."""
    limits = [int(limit) for limit in (soft, hard) if int(limit)]
    return max(0, min(limits) - int(used)) if limits else None


def _quota(folder: Path) -> str:
    """Return the output of the file system's command; "" without one, or if it fails."""
    if shutil.which("lfs"):
        command = ["lfs", "quota", "-u", user_name(), str(folder)]
    elif shutil.which("quota"):
        command = ["quota", "-w", "-p", "--filesystem", _mount(folder)]
    else:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _mount(folder: Path) -> str:
    """The mount point of a folder."""
    here = folder.resolve()
    return str(next((p for p in (here, *here.parents) if p.is_mount()), here))
