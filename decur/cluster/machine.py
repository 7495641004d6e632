"""Identify this machine and its running processes."""

import functools
import hashlib
import os
import socket
from pathlib import Path


def is_running(pid: int) -> bool:
    """Return whether a process with this number runs here, of any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@functools.cache
def machine_digest() -> str:
    """Return eight digits that identify the boot and PID namespace of this process."""
    place = boot_id() + pid_namespace() or socket.gethostname()  # both are empty outside Linux
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def boot_id() -> str:
    """Return the kernel's identifier of this boot of the machine; "" if unknown."""
    return line_of("/proc/sys/kernel/random/boot_id")


def pid_namespace() -> str:
    """Return the identifier of the PID namespace of this process; "" if unknown."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def line_of(path: str) -> str:
    """Return the content of a one-line system file; "" if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
