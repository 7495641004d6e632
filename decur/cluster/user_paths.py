"""Expand `~` and `$VARIABLES` in paths that users write, as a shell does."""

import os
import re
from pathlib import Path

from decur.cluster.user import home_folder
from decur.errors import DecurError

VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)(?P<end>\}?)|(?P<bare>[A-Za-z_]\w*))", re.ASCII)


def expand(text: str) -> str:
    """Replace a leading `~` or `~name`, `$NAME` and `${NAME}` by their values.

    The name of an existing file or folder is kept, even if it contains these characters.

    Raises:
        DecurError: a variable is not set, or there is no such home folder. The caller adds the
            path and its key or option to the message.
    """
    return _expanded(text, ())


def expand_named(name: str, text: str) -> str:
    """Expand a path as `expand` does; errors begin with the option or variable, and the path."""
    try:
        return expand(text)
    except DecurError as error:
        raise DecurError(f"{name} ({text!r}): {error}") from None


def expand_environment(name: str) -> None:
    """Expand the path in an environment variable, if the variable is set.

    Raises:
        DecurError: the path cannot be expanded; the message names the variable.
    """
    if text := os.environ.get(name):
        os.environ[name] = expand_named(name, text)


def _expanded(text: str, inside: tuple[str, ...]) -> str:
    """Expand a text that is part of the value of each of the variables `inside`."""
    parts = text.split("/")
    if parts[0].startswith("~") and not os.path.lexists(parts[0]):
        home = _home(parts[0])
        parts[0] = home.rstrip("/") if len(parts) > 1 else home
    for i, part in enumerate(parts):
        if "$" in part and not os.path.lexists("/".join(parts[: i + 1])):
            parts[i] = VARIABLE.sub(lambda found: _value(found, inside), part)
    return "/".join(parts)


def _home(name: str) -> str:
    if name == "~":
        home = home_folder()
        if home is None:
            raise DecurError("`~`: there is no home folder; set HOME, or write the full path")
        return str(home)
    try:
        return str(Path(name).expanduser())
    except RuntimeError:
        raise DecurError(
            f"`{name}`: there is no such user; correct the name, or write `./{name}` if it is the "
            "name of a file or folder"
        ) from None


def _value(found: re.Match[str], inside: tuple[str, ...]) -> str:
    """Return the value of a variable in a path, itself expanded."""
    name = found["bare"] or found["braced"]
    if found["end"] == "" or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise DecurError(
            f"`{found[0]}` is not a variable; write $NAME or ${{NAME}}, or the full path"
        )
    value = os.environ.get(name)
    if not value or (name == "HOME" and home_folder() is None):
        raise DecurError(
            f"the variable {name} is not set; set and export it, or write the full path"
        )
    if name in inside:
        raise DecurError(f"the variable {name} refers to itself ({value!r}); correct its value")
    return _expanded(value, (*inside, name))
