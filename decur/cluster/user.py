"""Provide a user name, a home folder and cache folders where there are none, as in containers.

Without them, packages fail, print warnings or create a folder named `~`. The command line and the
Snakefile therefore provide them before anything else.
"""

import getpass
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

STAND_IN = "DECUR_STAND_IN"
"""Environment variable with the folder that replaces a missing home folder; jobs inherit it."""


def provide_user() -> None:
    """Set `LOGNAME`, `HOME` and the cache folders if the current ones cannot be used.

    Raises:
        FileNotFoundError: there is no folder for temporary files.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # KeyError until Python 3.12
        os.environ["LOGNAME"] = str(os.getuid())  # SLURM's commands also accept a number
    if home_folder() is None:
        os.environ["HOME"] = str(_stand_in())
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    usual = {"XDG_CACHE_HOME": Path.home() / ".cache", "MPLCONFIGDIR": settings / "matplotlib"}
    for variable, folder in usual.items():
        if not _can_write(Path(os.environ.get(variable) or folder)):
            os.environ[variable] = str(_stand_in() / folder.name)


def home_folder() -> Path | None:
    """Return the user's home folder; None if there is none, or only a replacement."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if home.is_dir() and str(home) != os.environ.get(STAND_IN) else None


def _stand_in() -> Path:
    """Create and return a temporary folder that only this user can read and write."""
    if given := os.environ.get(STAND_IN):
        return Path(given)
    folder = Path(tempfile.gettempdir()) / f"decur-{os.getuid()}"
    with suppress(OSError):  # the folder exists, and may belong to another user
        folder.mkdir(mode=0o700)
    if not _is_private(folder):
        folder = Path(tempfile.mkdtemp(prefix="decur-"))
    os.environ[STAND_IN] = str(folder)
    return folder


def _is_private(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _can_write(folder: Path) -> bool:
    """Return whether this user can write to a folder, or create it if it does not exist."""
    there = next((f for f in (folder, *folder.absolute().parents) if f.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
