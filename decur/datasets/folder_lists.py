"""List own images by name, and their splits and classes: from folders, CSV lists, or a hash."""

import codecs
import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

from decur.config.data import OWN_SPLITS
from decur.errors import DecurError

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2")


def read_splits(path: Path) -> dict[str, str]:
    """Read the split of each name.

    Raises:
        DecurError: as `read_column`, or a split is unknown: a misspelt one would remove the image
            from the evaluation.
    """
    found = read_column(path, "split")
    for name, split in found.items():
        if split not in OWN_SPLITS:
            known = ", ".join(OWN_SPLITS)
            raise DecurError(f"{path}: split '{split}' of '{name}' is none of {known}")
    return found


def _text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark.

    Other encodings cannot be distinguished, so they are refused.
    """
    data = path.read_bytes()
    encoding = (
        "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DecurError(
            f"{path}: is not in UTF-8 (byte {data[error.start]:#04x} at {error.start}); save it as "
            "UTF-8, in a spreadsheet as 'CSV UTF-8'"
        ) from error


def read_column(path: Path, column: str) -> dict[str, str]:
    """Read a column of a CSV by `id`.

    Raises:
        DecurError: the file is not UTF-8 or UTF-16 text, lacks a column, has a line with more
            columns, or has an id twice.
    """
    rows = csv.DictReader(io.StringIO(_text(path), newline=""))
    try:
        if not {"id", column} <= set(rows.fieldnames or ()):
            raise DecurError(f"{path}: needs the columns id,{column}, has {rows.fieldnames}")
        found: dict[str, str] = {}
        for row in rows:
            if row["id"] in found:
                raise DecurError(f"{path}: id '{row['id']}' occurs more than once; keep one line")
            if None in row:
                raise DecurError(
                    f"{path}: the line of '{row['id']}' has more columns than the first line; "
                    "separate several labels by ';'"
                )
            found[row["id"]] = (row[column] or "").strip()
    except csv.Error as error:
        raise DecurError(f"{path}: is not a CSV file ({error}); save it again") from error
    return found


def hashed_split(name: str, share: float | str) -> str:
    """Assign `test` to a share of all names, the same ones each time, else `train`."""
    digest = hashlib.sha256(name.encode()).digest()
    return "test" if int.from_bytes(digest[:4]) / 2**32 < float(share) else "train"


def classes_of(text: str | None) -> tuple[str, ...]:
    """Split a label into its classes, which are separated by `;`."""
    return tuple(part.strip() for part in (text or "").split(";") if part.strip())


def images_by_name(folder: Path) -> dict[str, Path]:
    """List the images below a folder by name: the path in the folder, without suffix.

    Raises:
        DecurError: no image, two images of one name, or a link that leads nowhere.
    """
    found: dict[str, Path] = {}
    for path in sorted(_files(folder, set())):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if not path.exists():
            raise DecurError(
                f"{path}: leads to {path.readlink()}, which does not exist; fix the link"
            )
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DecurError(f"{path}: has the name of {found[name]}; remove one of them")
        found[name] = path
    if not found:
        raise DecurError(f"{folder}: contains no image ({', '.join(SUFFIXES)})")
    return found


def _files(folder: Path, above: set[Path]) -> Iterator[Path]:
    """Find all files below a folder and below linked folders, unless the links form a cycle."""
    own = folder.resolve()
    if own in above:
        raise DecurError(f"{folder}: leads to a folder that contains it; remove the link")
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path, above | {own})
        else:
            yield path
