"""Find the free space for results: on the disk, in its inodes, and in the user's quota."""

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
"""A row of `quota` and of `lfs quota`: file system; KiB used, quota, limit and grace; the same for
files. A row with a long name has a line break after it."""


@dataclass(frozen=True)
class Room:
    """The free space below one limit in GB and in files; None is unlimited."""

    limit: str
    gigabytes: float | None
    files: int | None


def rooms(folder: Path) -> list[Room]:
    """Return the free space of an existing folder: of its disk, and of known quotas."""
    found = os.statvfs(folder)
    files = found.f_favail if found.f_files else None  # some file systems do not count files
    disk = Room("file system", found.f_bavail * found.f_frsize / GB, files)
    return [disk, *parse_quota(_quota(folder))]


def parse_quota(text: str) -> Iterator[Room]:
    """Parse the output of `quota -p -w` or `lfs quota`."""
    for name, *numbers in ROW.findall(text):
        used, soft, hard, _, files, files_soft, files_hard, _ = numbers
        space, count = _left(used, soft, hard), _left(files, files_soft, files_hard)
        if space is not None or count is not None:
            yield Room(f"quota of {name}", None if space is None else space * KIB / GB, count)


def _left(used: str, soft: str, hard: str) -> int | None:
    """Subtract the used amount from the smaller limit; a limit of 0 means no limit."""
    limits = [int(limit) for limit in (soft, hard) if int(limit)]
    return max(0, min(limits) - int(used)) if limits else None


def _quota(folder: Path) -> str:
    """Run the quota command of the file system; "" if there is none, or if it fails."""
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
    """Find the mount point of a folder."""
    here = folder.resolve()
    return str(next((p for p in (here, *here.parents) if p.is_mount()), here))
