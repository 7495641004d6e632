"""What is ours: nothing is removed or replaced that this package did not make.

There are three kinds of proof. Some files name their origin themselves (weights, GeoTIFF, Parquet,
records in JSON). Some are listed with their checksums in a record in JSON beside them (tables,
figures, exported weights). For all others there is a hidden folder `.decur` beside them: `made/`
holds one small file per entry, with the fingerprint of what was written. Other folders in `.decur`
hold what is not finished.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from decur.artifacts.files import (
    checksum,
    remove,
    remove_left_over,
    temporary_of,
    write_atomically,
    writing,
)
from decur.errors import DecurError

HIDDEN, MADE, OLD, REPLACED = ".decur", "made", "old", "replaced"

READ_BYTES = 16 * 2**20
"""Of larger files the fingerprint is the size alone."""

IsOurs = Callable[[Path], bool]


def content_digest(path: Path) -> str:
    """Describe the content of a file, the target of a link, or the files below a folder.

    Links are not followed. Of the files below a folder only names and sizes count.
    """
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_dir():
        size = path.stat().st_size
        digest = hashlib.sha256(path.read_bytes() if size <= READ_BYTES else b"")
        return f"{size} bytes {digest.hexdigest()[:32]}"
    digest = hashlib.sha256()
    for root, folders, files in os.walk(path):
        folders.sort()  # which is also the order in which they are walked
        for name in [*folders, *sorted(files)]:
            entry = Path(root, name)
            is_folder = name in folders and not entry.is_symlink()
            count = "" if is_folder else str(entry.lstat().st_size)
            digest.update(f"{entry.relative_to(path)}\0{count}\0".encode(errors="surrogateescape"))
    return f"folder {digest.hexdigest()[:32]}"


def is_recorded(path: Path) -> bool:
    """Tell whether an entry is as it was written, according to the record beside it."""
    try:
        return content_digest(path) in _recorded(path)
    except FileNotFoundError:  # removed by its owner meanwhile
        return not os.path.lexists(path)


def check_ours(path: Path, ours: IsOurs = is_recorded) -> None:
    """Refuse to replace a file or folder that is not ours.

    Raises:
        DecurError: it exists and is not ours.
    """
    if os.path.lexists(path) and not ours(path):
        raise DecurError(
            f"{path}: exists and was not written by decur, or was changed since; move or delete "
            "it, or choose another output"
        )


def write_ours(path: Path, write: Callable[[Path], object], ours: IsOurs | None = None) -> None:
    """Write a file atomically; replace only a file that decur wrote.

    Args:
        path: the file.
        write: writes the content, given a temporary path.
        ours: recognises a file that names its origin; without it a record is kept.

    Raises:
        DecurError: the file exists and is not ours.
    """
    check_ours(path, ours or is_recorded)
    before = None if ours else partial(_record_both, path)
    write_atomically(path, write, before=before)


def write_with_record(
    record: Path, tree: Mapping[str, Any], contents: Mapping[Path, bytes]
) -> None:
    """Write files and the record in JSON that lists them; replace only what decur wrote.

    Args:
        record: the record's file. It is written before the files, with the checksums of what they
            replace as well, and once more at the end, so that whatever stops this, all are known.
        tree: what else the record holds, beside the checksums under `files`.
        contents: what each file is to hold.

    Raises:
        DecurError: one of the files exists and is not ours.
    """
    new = {path: checksum(data) for path, data in contents.items()}
    before = _listed(record)
    known = {path: sorted({new[path], *before.get(_name(path, record), ())}) for path in contents}
    _check_all(record, known)
    _write_record(record, tree, known)
    for path, data in contents.items():
        write_atomically(path, partial(Path.write_bytes, data=data))
    _write_record(record, tree, new)


def _write_record(record: Path, tree: Mapping[str, Any], sums: Mapping[Path, Any]) -> None:
    files = {_name(path, record): found for path, found in sums.items()}
    text = json.dumps({"files": files, **tree}, indent=1) + "\n"
    write_atomically(record, partial(Path.write_text, data=text, encoding="utf-8"))


def check_listed(record: Path, paths: Iterable[Path]) -> None:
    """Refuse early what `write_with_record` would refuse later.

    Raises:
        DecurError: one of the files exists and is not ours.
    """
    before = _listed(record)
    _check_all(record, {path: before.get(_name(path, record), []) for path in paths})


def _check_all(record: Path, known: Mapping[Path, Sequence[str]]) -> None:
    """Refuse a record that is none of ours, and files whose checksums are not known."""
    check_ours(record, lambda path: bool(_listed(path)))
    for path, sums in known.items():
        check_ours(path, partial(_is_one_of, sums))


def _is_one_of(sums: Sequence[str], path: Path) -> bool:
    return path.is_file() and checksum(path.read_bytes()) in sums


def _listed(record: Path) -> dict[str, list[str]]:
    """The checksums of the files that a record lists."""
    files = _read(record).get("files")
    if not isinstance(files, dict):
        return {}
    return {name: sums if isinstance(sums, list) else [sums] for name, sums in files.items()}


def _name(path: Path, record: Path) -> str:
    return os.path.relpath(path, record.parent)


def record_ours(path: Path) -> None:
    """Record that a file, which is whole, was written by us."""
    with writing(path.parent):
        _record(path, [content_digest(path)])


def write_folder_ours(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder atomically; replace only a folder that decur wrote.

    Raises:
        DecurError: the folder exists and is not ours, or cannot be written.
    """
    check_ours(folder)
    new = temporary_of(folder)
    old = temporary_of(folder.with_name(f"{folder.name}.old"))
    with writing(folder):
        remove_left_over(folder)
        for temporary in (new, old):  # of a killed process of the same number
            remove(temporary)
        new.mkdir(parents=True)
        try:
            write(new)
            _record_both(folder, new)
            if os.path.lexists(folder):
                folder.rename(old)
            new.rename(folder)
        finally:
            remove(new)
            remove(old)


def remove_entry(path: Path) -> None:
    """Remove a file or folder of ours, if it is there, and its record.

    Raises:
        DecurError: it is not ours.
    """
    check_ours(path)
    remove(path)
    _record_file(path).unlink(missing_ok=True)


def names_origin(path: Path) -> bool:
    """Tell whether a file is a record in JSON that this package wrote."""
    origin = _read(path).get("provenance")
    return isinstance(origin, dict) and "decur" in origin


@dataclass(frozen=True)
class OwnFolder:
    """A folder that a stage fills, complete once it holds its `record`, a JSON file.

    `is_record` recognises that file. Hidden entries (whose names begin with a dot) are left alone
    unless they are on record.

    Raises:
        DecurError: in all methods, if the folder holds anything that is not ours, or cannot be
            written.
    """

    path: Path
    record: str
    is_record: IsOurs = names_origin

    def check(self) -> None:
        """Refuse to fill the folder if it holds anything that is not ours."""
        if self.path.is_file():
            raise DecurError(f"{self.path}: is a file, not a folder; choose another output")
        for entry in sorted(self.path.iterdir()) if self.path.is_dir() else ():
            ours = self.is_record if entry.name == self.record else is_recorded
            if not entry.name.startswith(".") and not ours(entry):
                raise DecurError(
                    f"{self.path}: holds '{entry.name}', which was not written by decur or was "
                    "changed since; move or delete it, or choose another folder"
                )

    def stage(self, name: str = "new", *, keep: bool = False) -> Path:
        """Give a hidden folder in which to prepare the new content.

        It is empty unless what a killed run left there is to be kept, also if it was killed while
        that was put in place. The folder itself is made where it is not there, also at the end of a
        link.
        """
        self.check()
        hidden = Path(os.path.realpath(self.path)) / HIDDEN
        staged = self.path / HIDDEN / name
        with writing(self.path):
            hidden.mkdir(parents=True, exist_ok=True)
            if keep and staged.is_dir():
                self._take_back(staged)
            for entry in hidden.iterdir():
                if entry.name != MADE and not (keep and entry.name == name):
                    remove(entry)
            staged.mkdir(exist_ok=True)
        return staged

    def _take_back(self, staged: Path) -> None:
        """Move back to a stage what an interrupted `put_in_place` had moved from it."""
        if os.path.lexists(self.path / self.record) or not self._replaced.is_dir():
            return
        for name in made(self.path):
            if os.path.lexists(self.path / name):
                (self.path / name).rename(staged / name)

    @property
    def _replaced(self) -> Path:
        """The old content, once all of it is out of the way."""
        return self.path / HIDDEN / REPLACED

    def put_in_place(self, staged: Path, names: Sequence[str]) -> None:
        """Make entries of a stage, and the record in it, the content of the folder.

        The record goes first and comes last. Whenever this is interrupted, all entries are known
        to be ours. The stage is removed.
        """
        self.check()
        old = self.path / HIDDEN / OLD
        with writing(self.path):
            prints = {name: content_digest(staged / name) for name in names}
            for name in names:
                check_ours(self.path / name)  # `check` leaves hidden ones alone
                _record(self.path / name, [*_recorded(self.path / name), prints[name]])
            old.mkdir(exist_ok=True)
            for name in [self.record, *made(self.path)]:
                if os.path.lexists(self.path / name):
                    (self.path / name).rename(old / name)
            remove(self._replaced)
            old.rename(self._replaced)
            for name in names:
                (staged / name).rename(self.path / name)
                _record(self.path / name, [prints[name]])
            for name in made(self.path) - set(names):
                _record_file(self.path / name).unlink()
            (staged / self.record).rename(self.path / self.record)
            remove(self._replaced)
            remove(staged)

    def discard(self, name: str = "new") -> None:
        """Remove a stage, if it is still there, and the folder, if nothing else is in it."""
        remove(self.path / HIDDEN / name)
        with suppress(OSError):  # not empty
            (self.path / HIDDEN).rmdir()
            self.path.rmdir()

    def clear(self) -> None:
        """Remove all that is ours, the record first, but what is being prepared."""
        self.check()
        with writing(self.path):
            for name in [self.record, *made(self.path)]:
                remove(self.path / name)
            remove(self.path / HIDDEN / MADE)


def made(folder: Path) -> set[str]:
    """Names of the entries of a folder that are on record, whether they are still there or not.

    A record that somebody forged cannot lead out of the folder.
    """
    found = set()
    for record in (folder / HIDDEN / MADE).glob("*.json"):
        name = _read(record).get("name")
        if isinstance(name, str) and name not in ("", ".", "..") and "/" not in name:
            found.add(name)
    return found


def _recorded(path: Path) -> list[str]:
    """The fingerprints on record: usually one, more where a replacement was interrupted."""
    found: list[str] = _read(_record_file(path)).get("made", [])
    return found


def _record(path: Path, fingerprints: Sequence[str]) -> None:
    text = json.dumps({"name": path.name, "made": list(fingerprints)})
    write_atomically(
        _record_file(path), lambda temporary: temporary.write_text(text, encoding="utf-8")
    )


def _record_both(path: Path, new: Path) -> None:
    """Record what is there, if anything, and what is about to take its place."""
    there = [content_digest(path)] if os.path.lexists(path) else []
    _record(path, [*there, content_digest(new)])


def _record_file(path: Path) -> Path:
    """The record of an entry, named so that no pattern for the entry finds it."""
    digest = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()
    return path.parent / HIDDEN / MADE / f"{digest[:24]}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
