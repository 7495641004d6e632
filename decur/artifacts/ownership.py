"""Protect the user's files: only files that decur wrote are removed or replaced.

There are three kinds of proof that decur wrote a file. Some files name their origin themselves
(weights, GeoTIFF, Parquet, JSON records). Some are listed with their checksums in a JSON record
beside them (tables, figures, exported weights). For all others, a hidden folder `.decur` is beside
them: its folder `made/` contains one small file per entry, with the fingerprint of the written
content. Other folders in `.decur` contain unfinished work.
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
"""Size in bytes above which the fingerprint of a file is only its size."""

IsOurs = Callable[[Path], bool]


def content_digest(path: Path) -> str:
    """Return a fingerprint of a file's content, a link's target, or the files below a folder.

    Links are not followed. For a folder, only the names and sizes of its files count.
    """
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_dir():
        size = path.stat().st_size
        digest = hashlib.sha256(path.read_bytes() if size <= READ_BYTES else b"")
        return f"{size} bytes {digest.hexdigest()[:32]}"
    digest = hashlib.sha256()
    for root, folders, files in os.walk(path):
        folders.sort()  # os.walk then visits the folders in this order too
        for name in [*folders, *sorted(files)]:
            entry = Path(root, name)
            is_folder = name in folders and not entry.is_symlink()
            count = "" if is_folder else str(entry.lstat().st_size)
            digest.update(f"{entry.relative_to(path)}\0{count}\0".encode(errors="surrogateescape"))
    return f"folder {digest.hexdigest()[:32]}"


def is_recorded(path: Path) -> bool:
    """Return whether an entry is unchanged since decur wrote it, according to its record."""
    try:
        return content_digest(path) in _recorded(path)
    except FileNotFoundError:  # another process has removed it meanwhile
        return not os.path.lexists(path)


def check_ours(path: Path, ours: IsOurs = is_recorded) -> None:
    """Check that a file or folder may be replaced: it does not exist, or decur wrote it.

    Raises:
        DecurError: it exists and was not written by decur.
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
        write: writes the content to the given temporary path.
        ours: recognises a file that names its origin; if None, a record in `.decur` is kept.

    Raises:
        DecurError: the file exists and was not written by decur.
    """
    check_ours(path, ours or is_recorded)
    before = None if ours else partial(_record_both, path)
    write_atomically(path, write, before=before)


def write_with_record(
    record: Path, tree: Mapping[str, Any], contents: Mapping[Path, bytes]
) -> None:
    """Write files and the JSON record that lists them; replace only files that decur wrote.

    Args:
        record: the file of the record. It is written twice: before the files, with old and new
            checksums, and after them. An interruption thus never leaves an unlisted file.
        tree: the other content of the record, besides the checksums under `files`.
        contents: the content of each file.

    Raises:
        DecurError: one of the files exists and was not written by decur.
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
    """Check early that `write_with_record` may replace the given files.

    Raises:
        DecurError: one of the files exists and was not written by decur.
    """
    before = _listed(record)
    _check_all(record, {path: before.get(_name(path, record), []) for path in paths})


def _check_all(record: Path, known: Mapping[Path, Sequence[str]]) -> None:
    """Refuse a record that decur did not write, and files whose checksums are not known."""
    check_ours(record, lambda path: bool(_listed(path)))
    for path, sums in known.items():
        check_ours(path, partial(_is_one_of, sums))


def _is_one_of(sums: Sequence[str], path: Path) -> bool:
    return path.is_file() and checksum(path.read_bytes()) in sums


def _listed(record: Path) -> dict[str, list[str]]:
    """Return the checksums of the files that a record lists, by name."""
    files = _read(record).get("files")
    if not isinstance(files, dict):
        return {}
    return {name: sums if isinstance(sums, list) else [sums] for name, sums in files.items()}


def _name(path: Path, record: Path) -> str:
    return os.path.relpath(path, record.parent)


def record_ours(path: Path) -> None:
    """Record that decur wrote a file, which must be complete."""
    with writing(path.parent):
        _record(path, [content_digest(path)])


def write_folder_ours(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder atomically; replace only a folder that decur wrote.

    Raises:
        DecurError: the folder exists and was not written by decur, or cannot be written.
    """
    check_ours(folder)
    new = temporary_of(folder)
    old = temporary_of(folder.with_name(f"{folder.name}.old"))
    with writing(folder):
        remove_left_over(folder)
        for temporary in (new, old):  # left by a killed process with the same number
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
    """Remove a file or folder that decur wrote, if it exists, and its record.

    Raises:
        DecurError: it was not written by decur.
    """
    check_ours(path)
    remove(path)
    _record_file(path).unlink(missing_ok=True)


def names_origin(path: Path) -> bool:
    """Return whether a file is a JSON record that decur wrote."""
    origin = _read(path).get("provenance")
    return isinstance(origin, dict) and "decur" in origin


@dataclass(frozen=True)
class OwnFolder:
    """A folder that a stage fills; it is complete when it contains its `record`, a JSON file.

    `is_record` recognises that file. Hidden entries (names that begin with a dot) are kept, unless
    decur has recorded them.

    Raises:
        DecurError: in all methods, if the folder contains anything that decur did not write, or
            cannot be written.
    """

    path: Path
    record: str
    is_record: IsOurs = names_origin

    def check(self) -> None:
        """Check that the folder contains only entries that decur wrote."""
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
        """Create and return a hidden folder in which to prepare the new content.

        The hidden folder is empty, unless `keep` is true and a killed run left content there. If
        that run had begun to put the content in place, it is moved back. The folder itself is
        created if it does not exist, even if its path is a link.
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
        """Move the entries that an interrupted `put_in_place` had moved back to their stage."""
        if os.path.lexists(self.path / self.record) or not self._replaced.is_dir():
            return
        for name in made(self.path):
            if os.path.lexists(self.path / name):
                (self.path / name).rename(staged / name)

    @property
    def _replaced(self) -> Path:
        """Return the folder of the old content, which exists once all of it has been moved."""
        return self.path / HIDDEN / REPLACED

    def put_in_place(self, staged: Path, names: Sequence[str]) -> None:
        """Replace the content of the folder by entries of a stage and the record in the stage.

        The old record is removed first, and the new record is moved last. After an interruption at
        any point, every entry is still recorded as written by decur. The stage is removed.
        """
        self.check()
        old = self.path / HIDDEN / OLD
        with writing(self.path):
            prints = {name: content_digest(staged / name) for name in names}
            for name in names:
                check_ours(self.path / name)  # `check` skips hidden entries
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
        """Remove a stage, if it still exists, and the folder, if it is then empty."""
        remove(self.path / HIDDEN / name)
        with suppress(OSError):  # not empty
            (self.path / HIDDEN).rmdir()
            self.path.rmdir()

    def clear(self) -> None:
        """Remove all entries that decur wrote, the record first; keep stages in preparation."""
        self.check()
        with writing(self.path):
            for name in [self.record, *made(self.path)]:
                remove(self.path / name)
            remove(self.path / HIDDEN / MADE)


def made(folder: Path) -> set[str]:
    """Return the names of the recorded entries of a folder, existing or not.

    Names that would lead out of the folder, as in a forged record, are ignored.
    """
    found = set()
    for record in (folder / HIDDEN / MADE).glob("*.json"):
        name = _read(record).get("name")
        if isinstance(name, str) and name not in ("", ".", "..") and "/" not in name:
            found.add(name)
    return found


def _recorded(path: Path) -> list[str]:
    """Return the recorded fingerprints: usually one, or several after an interrupted write."""
    found: list[str] = _read(_record_file(path)).get("made", [])
    return found


def _record(path: Path, fingerprints: Sequence[str]) -> None:
    text = json.dumps({"name": path.name, "made": list(fingerprints)})
    write_atomically(
        _record_file(path), lambda temporary: temporary.write_text(text, encoding="utf-8")
    )


def _record_both(path: Path, new: Path) -> None:
    """Record the existing entry, if any, and the new one that is about to replace it."""
    there = [content_digest(path)] if os.path.lexists(path) else []
    _record(path, [*there, content_digest(new)])


def _record_file(path: Path) -> Path:
    """Return the record of an entry; its name never matches a glob pattern for the entry."""
    digest = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()
    return path.parent / HIDDEN / MADE / f"{digest[:24]}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
