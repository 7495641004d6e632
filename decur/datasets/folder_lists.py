"""Which split and which classes an own image has: CSV lists by `id`, or a hash of its name."""

import codecs
import csv
import hashlib
import io
from pathlib import Path

from decur.config.data import OWN_SPLITS
from decur.errors import DecurError


def read_splits(path: Path) -> dict[str, str]:
    """The split of each name.

    Raises:
        DecurError: as `read_column`, or a split that is none: misspelt, it would take the image out
            of the evaluation.
    """
    found = read_column(path, "split")
    for name, split in found.items():
        if split not in OWN_SPLITS:
            known = ", ".join(OWN_SPLITS)
            raise DecurError(f"{path}: split '{split}' of '{name}' is none of {known}")
    return found


def _text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with the mark at its begin that programs write.

    Other encodings cannot be told from one another, so they are refused.
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
    """A column by `id`.

    Raises:
        DecurError: the file is no text in UTF-8 or UTF-16, has no such columns, a line with more,
            or an id twice.
    """
    rows = csv.DictReader(io.StringIO(_text(path), newline=""))
    try:
        if not {"id", column} <= set(rows.fieldnames or ()):
            raise DecurError(f"{path}: needs the columns id,{column}, has {rows.fieldnames}")
        found: dict[str, str] = {}
        for row in rows:
            if row["id"] in found:
                raise DecurError(f"{path}: id '{row['id']}' comes more than once")
            if None in row:
                raise DecurError(
                    f"{path}: the line of '{row['id']}' has more columns than the first line; part "
                    "several labels by ';'"
                )
            found[row["id"]] = (row[column] or "").strip()
    except csv.Error as error:
        raise DecurError(f"{path}: no CSV ({error}); save it anew") from error
    return found


def hashed_split(name: str, share: float | str) -> str:
    """`test` for a share of all names, always the same ones, else `train`."""
    digest = hashlib.sha256(name.encode()).digest()
    return "test" if int.from_bytes(digest[:4]) / 2**32 < float(share) else "train"


def classes_of(text: str | None) -> tuple[str, ...]:
    """The classes of a label, which may be several with `;` between them."""
    return tuple(part.strip() for part in (text or "").split(";") if part.strip())
