"""Which machine this is, and which of its processes run: what a process number is valid for."""

import functools
import hashlib
import os
import socket
from pathlib import Path


def is_running(pid: int) -> bool:
    """Tell whether a process of this number runs here, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@functools.cache
def machine_digest() -> str:
    """Eight digits for where a process number is valid: a boot of a machine, a PID namespace."""
    place = boot_id() + pid_namespace() or socket.gethostname()  # neither is known beside Linux
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def boot_id() -> str:
    """Return what identifies this machine since it was started; "" if unknown."""
    return line_of("/proc/sys/kernel/random/boot_id")


def pid_namespace() -> str:
    """Return what identifies the PID namespace of this process; "" if unknown."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def line_of(path: str) -> str:
    """Return the line in a file of the system; "" if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
