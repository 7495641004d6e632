"""Let one process at a time work in a folder, and find out whether its owner is still at work.

A claim is a small JSON file in the folder. Unlike a lock of the file system it names its owner, and
it holds on file systems whose locks do not reach from node to node. It is created exclusively, so
of several processes that claim a folder at once exactly one succeeds.
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
"""Seconds to wait for a claim to become readable: without hard links it is empty at first."""

POLL = 0.02
"""Seconds between two looks at such a claim."""


@dataclass(frozen=True)
class Owner:
    """A process that works in a folder.

    `begun` is its start time, which distinguishes it from a later process with the same number; it
    is empty if unknown. The number means something only on one `machine`, since one `boot`, in one
    `pid_namespace`. `alone`: its SLURM job was submitted for this run alone, `restarts` counts how
    often that has been requeued. Claims of earlier versions have None for what they do not record.
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
    """Return the name of the user, or the number of one without a name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return str(os.getuid())


def holder(path: Path) -> Owner | None:
    """Return who claims a folder by the file at `path`; None if nobody, or it is unreadable."""
    try:
        return _parsed(_read(path) or "")
    except DecurError:
        return None


def is_gone(owner: Owner) -> bool | None:
    """Return whether the owner has ended; None if that cannot be found out from here.

    Raises:
        DecurError: only SLURM could answer, and does not.
    """
    here = this_process()
    if _share_processes(owner, here):  # the job may well outlive the process
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
    # Our own job before it was requeued; without a requeue, perhaps another of its nodes.
    return True if owner.restarts < here.restarts else None


def claim(path: Path) -> None:
    """Claim a folder for this process by the file at `path`, unless somebody else is at work.

    Raises:
        DecurError: somebody is, or may be; the file cannot be read or written; SLURM, which alone
            could say whether the owner is gone, does not answer.
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
                f"{path}: no claim that can be read; if nobody is at work in {path.parent}, delete "
                "this file"
            )
        else:
            time.sleep(POLL)


def release(path: Path) -> None:
    """Give up this process's claim, if it has one."""
    if holder(path) == this_process():
        with suppress(OSError):  # whatever stays is stale once this process has ended
            path.unlink(missing_ok=True)


@contextmanager
def taken_over(path: Path) -> Iterator[None]:
    """Within the block this process holds the claim at `path`.

    A job that was submitted for one run alone first ends another such job that holds the claim, and
    which may save what it has done: it is left over from a Snakemake that was killed, since one
    that lives has its results to itself. No other job is ended, which may do other work, too.

    Raises:
        DecurError: somebody else is at work, or may be; or see `claim`.
    """
    other = holder(path)
    if other is not None and other.alone and is_marked() and other.slurm_job != own_job():
        left_over = str(other.slurm_job)
        # Even if the process is gone: the job may be queued to run again.
        if is_alive(left_over):
            print(f"{path.parent}: ending {other}, which is left over, and going on", flush=True)
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
            f"{path.parent}: claimed by {other}, and whether that is still at work cannot be "
            f"told from here; if it is not, delete {path}"
        )
    if not gone:
        raise DecurError(f"{path.parent}: {other} is at work here; wait for it or end it")


def _remove_stale(path: Path, content: str) -> None:
    """Remove a claim whose owner is gone, unless it is no longer the one with this content.

    Only the process that holds the claim on this very content removes it. Owners that are gone make
    no claims, so what that process reads again it also removes.
    """
    token = hashlib.sha256(content.encode()).hexdigest()[:16]
    lock = path.with_name(f".{path.name}.{token}")
    claim(lock)
    try:
        if _read(path) == content:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DecurError(f"{path}: a stale claim that cannot be deleted ({error})") from error
    finally:
        release(lock)


def _read(path: Path) -> str | None:
    """Return the content of a claim; None if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DecurError(
            f"{path}: the claim cannot be read ({error.strerror or error}); if nobody is at work "
            f"in {path.parent}, delete it"
        ) from error


def _parsed(content: str) -> Owner | None:
    """Return the owner whom a claim names; None if it is damaged."""
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
    """Create a file with this content; returns False if there is one already.

    Raises:
        DecurError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(temporary, content)
        try:
            # One step that fails if the file is there, on NFS as well.
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # no hard links here
            return _create_in_place(path, content)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DecurError(
            f"{path}: the claim cannot be written ({error.strerror or error}); make room or choose "
            "another folder and run again"
        ) from error
    return True


def _create_in_place(path: Path, content: str) -> bool:
    try:
        _write_new(path, content)
    except FileExistsError:
        return False
    return True


def _write_new(path: Path, content: str) -> None:
    """Create and flush a file; what cannot be written in full is removed."""
    with path.open("x", encoding="utf-8") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _share_processes(owner: Owner, here: Owner) -> bool:
    """Whether a process number of the owner means the same here."""
    places = ((o.machine, o.boot, o.pid_namespace) for o in (owner, here))
    # What an earlier version has not recorded is not compared; the host decides, as it did then.
    same = all(theirs in (None, ours) for theirs, ours in zip(*places, strict=True))
    return owner.host == here.host and same


def _rebooted_since(owner: Owner, here: Owner) -> bool:
    same = owner.host == here.host and bool(here.machine) and owner.machine == here.machine
    return same and bool(owner.boot) and bool(here.boot) and owner.boot != here.boot


def _begun(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None if it has ended, "" if that is unknown."""
    try:
        # Another number: /proc is of another PID namespace, and lists other processes.
        if str(Path("/proc/self").readlink()) == str(os.getpid()):
            state, *rest = (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            )
            # A zombie has ended, and may wait for its parent to notice for ever.
            return None if state in "ZX" else rest[18]
    except (OSError, ValueError, IndexError):
        pass  # not Linux, or a /proc that hides the processes of other users
    return "" if is_running(pid) else None
