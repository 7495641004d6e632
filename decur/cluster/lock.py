"""Let one process at a time work in a folder, and find out whether that process still runs.

A claim is a small JSON file in the folder. Unlike a file system lock, it names its owner, and it
also works on file systems whose locks are not shared between nodes. It is created exclusively: if
several processes claim a folder at once, exactly one succeeds.
"""

import getpass
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from decur.cluster.machine import boot_id, is_running, line_of, pid_namespace
from decur.cluster.slurm import end_job, is_alive, is_marked, own_job, restarts
from decur.errors import DecurError

PATIENCE = 3.0
"""Seconds to wait until a claim is readable; without hard links it is empty at first."""

POLL = 0.02
"""Seconds between two attempts to read such a claim."""


@dataclass(frozen=True)
class Owner:
    """A process that works in a folder.

    `begun` is the start time of the process, or empty if unknown. It distinguishes the process from
    a later one with the same number. The number `pid` is valid only on one `machine`, after one
    `boot`, in one `pid_namespace`. `alone` is true if its SLURM job was submitted for this run
    alone; `restarts` counts how often that job has been requeued. Values that earlier versions did
    not record are None.
    """

    host: str
    pid: int
    begun: str
    user: str
    slurm_job: str | None = None
    machine: str | None = None
    boot: str | None = None
    pid_namespace: str | None = None
    restarts: int | None = None
    alone: bool = False

    def __str__(self) -> str:
        job = f"SLURM job {self.slurm_job}, " if self.slurm_job else ""
        return f"{job}process {self.pid} of {self.user} on {self.host}"


def this_process() -> Owner:
    """Return the claim of this process."""
    pid, job = os.getpid(), own_job()
    return Owner(
        host=socket.gethostname(),
        pid=pid,
        begun=_begun(pid) or "",
        user=user_name(),
        slurm_job=job,
        machine=line_of("/etc/machine-id"),
        boot=boot_id(),
        pid_namespace=pid_namespace(),
        restarts=restarts() if job else None,
        alone=is_marked(),
    )


def user_name() -> str:
    """Return the user's name, or the user's number where there is no name (some containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return str(os.getuid())


def holder(path: Path) -> Owner | None:
    """Return the owner in the claim file `path`; None if it is missing or unreadable."""
    try:
        return _parsed(_read(path) or "")
    except DecurError:
        return None


def is_gone(owner: Owner) -> bool | None:
    """Return whether the owner has ended; None if this machine cannot find out.

    Raises:
        DecurError: the answer depends on SLURM, which does not respond.
    """
    here = this_process()
    if _share_processes(owner, here):  # ask for the process: its job may run longer
        begun = _begun(owner.pid)
        return begun is None or ("" not in (begun, owner.begun) and begun != owner.begun)
    if _rebooted_since(owner, here):
        return True
    if owner.slurm_job is None:
        return None
    if owner.slurm_job != here.slurm_job:
        return not is_alive(owner.slurm_job)
    if owner.restarts is None or here.restarts is None:
        return None
    # With fewer restarts, the owner is this job before a requeue. Otherwise it may be a process of
    # this job on another node.
    return True if owner.restarts < here.restarts else None


def claim(path: Path) -> None:
    """Claim a folder for this process with the file `path`, unless another process works there.

    Raises:
        DecurError: another process works there, or may do so; the file cannot be read or written;
            whether the owner has ended depends on SLURM, which does not respond.
    """
    give_up = time.monotonic() + PATIENCE
    while True:
        content = _read(path)
        if content is None and _create(path, json.dumps(asdict(this_process())) + "\n"):
            return
        other = _parsed(content or "")
        if content is not None and other is not None:
            if other == this_process():
                return
            _refuse_unless_gone(path, other)
            _remove_stale(path, content)
            give_up = time.monotonic() + PATIENCE
        elif time.monotonic() > give_up:
            raise DecurError(
                f"{path}: the claim is empty or damaged; if no process works in {path.parent}, "
                "delete this file"
            )
        else:
            time.sleep(POLL)


def release(path: Path) -> None:
    """Delete the claim of this process, if it has one."""
    if holder(path) == this_process():
        with suppress(OSError):  # a claim that remains is stale once this process has ended
            path.unlink(missing_ok=True)


@contextmanager
def taken_over(path: Path) -> Iterator[None]:
    """Hold the claim at `path` within the block.

    If this job and the job that holds the claim were both submitted for one run alone, this job
    first ends the other one, which may still save a checkpoint. The other job is an orphan of a
    killed Snakemake, because a running Snakemake has exclusive use of its results. Jobs of other
    kinds are never ended, because they may do other work too.

    Raises:
        DecurError: another process works there, or may do so; or see `claim`.
    """
    other = holder(path)
    if other is not None and other.alone and is_marked() and other.slurm_job != own_job():
        left_over = str(other.slurm_job)
        # Ask for the job, not the process: a job without a process may be queued to run again.
        if is_alive(left_over):
            print(f"{path.parent}: ending {other}, which is orphaned, and continuing", flush=True)
            end_job(left_over)
    claim(path)
    try:
        yield
    finally:
        release(path)


def _refuse_unless_gone(path: Path, other: Owner) -> None:
    gone = is_gone(other)
    if gone is None:
        raise DecurError(
            f"{path.parent}: claimed by {other}, which cannot be checked from this machine; if it "
            f"no longer runs, delete {path}"
        )
    if not gone:
        raise DecurError(f"{path.parent}: {other} is at work here; wait for it or end it")


def _remove_stale(path: Path, content: str) -> None:
    """Remove a claim whose owner has ended, unless its content has changed.

    Processes that want to remove a claim first claim its content, so that only one of them acts. An
    owner that has ended writes no new claim, so unchanged content is safe to remove.
    """
    token = hashlib.sha256(content.encode()).hexdigest()[:16]
    lock = path.with_name(f".{path.name}.{token}")
    claim(lock)
    try:
        if _read(path) == content:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DecurError(
            f"{path}: the stale claim cannot be deleted ({error}); delete it by hand"
        ) from error
    finally:
        release(lock)


def _read(path: Path) -> str | None:
    """Return the content of a claim file; None if it does not exist."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DecurError(
            f"{path}: the claim cannot be read ({error.strerror or error}); if no process works in "
            f"{path.parent}, delete this file"
        ) from error


def _parsed(content: str) -> Owner | None:
    """Return the owner that a claim names; None if the claim is damaged."""
    try:
        tree = json.loads(content)
        known = {field.name: tree[field.name] for field in fields(Owner) if field.name in tree}
        owner = Owner(**known)
    except (ValueError, TypeError, RecursionError):
        return None
    return owner if _is_sound(owner) else None


def _is_sound(owner: Owner) -> bool:
    texts: list[Any] = [owner.slurm_job, owner.machine, owner.boot, owner.pid_namespace]
    return (
        all(isinstance(text, str) for text in (owner.host, owner.begun, owner.user))
        and all(text is None or isinstance(text, str) for text in texts)
        and type(owner.pid) is int
        and 0 < owner.pid < 2**31
        and (owner.restarts is None or type(owner.restarts) is int)
        and type(owner.alone) is bool
    )


def _create(path: Path, content: str) -> bool:
    """Create a file with this content; return False if the file exists.

    Raises:
        DecurError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(temporary, content)
        try:
            # A hard link is atomic and fails if the file exists, on NFS as well.
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # the file system has no hard links
            return _create_in_place(path, content)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DecurError(
            f"{path}: the claim cannot be written ({error.strerror or error}); free some space or "
            "choose another folder, and run again"
        ) from error
    return True


def _create_in_place(path: Path, content: str) -> bool:
    try:
        _write_new(path, content)
    except FileExistsError:
        return False
    return True


def _write_new(path: Path, content: str) -> None:
    """Create and flush a file; remove it if it cannot be written completely."""
    with path.open("x", encoding="utf-8") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _share_processes(owner: Owner, here: Owner) -> bool:
    """Return whether a process number refers to the same process here and for the owner."""
    places = ((o.machine, o.boot, o.pid_namespace) for o in (owner, here))
    # Values that an earlier version did not record are skipped; then the host name decides.
    same = all(theirs in (None, ours) for theirs, ours in zip(*places, strict=True))
    return owner.host == here.host and same


def _rebooted_since(owner: Owner, here: Owner) -> bool:
    same = owner.host == here.host and bool(here.machine) and owner.machine == here.machine
    return same and bool(owner.boot) and bool(here.boot) and owner.boot != here.boot


def _begun(pid: int) -> str | None:
    """Return when a process started, in kernel ticks; None if it has ended, "" if unknown."""
    try:
        # If the numbers differ, /proc belongs to another PID namespace and lists other processes.
        if str(Path("/proc/self").readlink()) == str(os.getpid()):
            state, *rest = (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            )
            # A zombie has ended, even if its parent never collects it.
            return None if state in "ZX" else rest[18]
    except (OSError, ValueError, IndexError):
        pass  # not Linux, or /proc hides the processes of other users
    return "" if is_running(pid) else None
