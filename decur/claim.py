"""One at a time: who works in a folder, and whether they are still there.

A claim is a small file. It says more than a lock of the file system would, and holds on those whose
locks do not reach from node to node.
"""

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from decur.errors import DecurError
from decur.files import write_atomically
from decur.slurm import end_job, is_alive, own_job


@dataclass(frozen=True)
class Owner:
    """A process that works in a folder.

    `begun` is when it began, which tells it from a later process of the same number.
    """

    host: str
    pid: int
    begun: str
    user: str
    slurm_job: str | None = None

    def __str__(self) -> str:
        job = f"SLURM job {self.slurm_job}, " if self.slurm_job else ""
        return f"{job}process {self.pid} of {self.user} on {self.host}"


def this_process() -> Owner:
    """The claim of this process."""
    pid = os.getpid()
    return Owner(socket.gethostname(), pid, _begun(pid) or "", getpass.getuser(), own_job())


def holder(path: Path) -> Owner | None:
    """Who claims a folder by the file at `path`; None where nobody does, or it is unreadable."""
    try:
        return Owner(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_gone(owner: Owner) -> bool | None:
    """Whether the owner has ended; None where that cannot be told from here."""
    if owner.slurm_job not in (None, own_job()):
        return not is_alive(str(owner.slurm_job))
    if owner.host == socket.gethostname():
        return _begun(owner.pid) != owner.begun
    return True if owner.slurm_job else None  # our own job, before it was requeued


def claim(path: Path) -> None:
    """Claim a folder for this process by the file at `path`, unless somebody else is at work.

    Raises:
        DecurError: somebody is, or may be.
    """
    other = holder(path)
    if other is not None and other != this_process():
        gone = is_gone(other)
        if gone is None:
            raise DecurError(
                f"{path.parent}: claimed by {other}, and whether that is still at work cannot be "
                f"told from here; if it is not, delete {path}"
            )
        if not gone:
            raise DecurError(f"{path.parent}: {other} is at work here; wait for it or end it")
    owner = asdict(this_process())
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(owner) + "\n"))


def release(path: Path) -> None:
    """Give up this process's claim, if it has one."""
    if holder(path) == this_process():
        path.unlink(missing_ok=True)


@contextmanager
def taken_over(path: Path) -> Iterator[None]:
    """Within the block this process holds the claim at `path`.

    In a SLURM job, another one that holds it is ended first, and may save what it has done: it is
    left over from a Snakemake that was killed, since one that lives has its results to itself.

    Raises:
        DecurError: somebody else is at work, or may be.
    """
    other = holder(path)
    if other is not None and own_job() is not None and other.slurm_job not in (None, own_job()):
        left_over = str(other.slurm_job)
        if is_alive(left_over):
            print(f"{path.parent}: ending {other}, which is left over, and going on", flush=True)
            end_job(left_over)
    claim(path)
    try:
        yield
    finally:
        release(path)


def _begun(pid: int) -> str | None:
    """When a process of this machine began, in the kernel's ticks; None if there is none."""
    if not Path("/proc/self").exists():  # not Linux: whether there is one must do
        return "" if _exists(pid) else None
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
