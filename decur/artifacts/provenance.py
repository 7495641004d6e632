"""Record the provenance of artifacts (settings, inputs, versions); fingerprints; JSON files."""

import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import decur
from decur.artifacts.files import checksum, file_checksum, read_once
from decur.artifacts.ownership import names_origin, write_ours
from decur.artifacts.paths import CARD, MANIFEST, METRICS
from decur.errors import DecurError

BLOCK = 2**20
"""Bytes per read of a large file."""


class RecordPart(BaseModel):
    """Base of records and of their parts; keys that they do not declare are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Origin(RecordPart):
    """Provenance of an artifact: settings, checksums of the inputs by name, and versions.

    `pretrained` is the provenance of the weights that were evaluated or explained.
    """

    settings: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, str] = Field(default_factory=dict)
    decur: str = ""
    commit: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    pretrained: dict[str, Any] | None = None


def provenance(
    settings: BaseModel | Mapping[str, Any],
    inputs: Mapping[str, str],
    packages: Sequence[str],
    pretrained: Origin | None = None,
) -> Origin:
    """Return the provenance of an artifact, independent of the time and machine of its job.

    Time and machine are in `decur.artifacts.timing.JobRecord`.

    Args:
        settings: all settings of the stage, including those of its job.
        inputs: the checksum of each input, by name.
        packages: the installed packages that affect the result, besides Python and decur.
        pretrained: the provenance of the weights, if the inputs contain weights.
    """
    tree = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else dict(settings)
    versions = {"python": platform.python_version(), **{name: _version(name) for name in packages}}
    return Origin(
        settings=tree,
        inputs=dict(inputs),
        decur=decur.__version__,
        commit=git_commit(),
        packages=versions,
        pretrained=None if pretrained is None else pretrained.model_dump(mode="json"),
    )


_version = functools.cache(metadata.version)  # cached, because each call parses a long file


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the package's git checkout, with `-dirty` if changed; None without one.

    Another repository that happens to contain the installed package does not count.
    """
    package = Path(decur.__file__).resolve().parent
    try:
        if Path(_git(package, "rev-parse", "--show-toplevel")).resolve() != package.parent:
            return None
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return _git(package, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *command: str) -> str:
    """Run a git command in the repository of a folder and return its output."""
    words = ["git", "-C", str(folder), *command]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


@read_once
def fingerprint(path: Path) -> str:
    """Return the fingerprint of an artifact, which the records of later artifacts contain.

    The fingerprint depends on the kind of artifact:

    - manifest: a digest of the names and sizes of the raw files and of the archives
    - card: the checksum of the samples
    - weights: a digest of the tensors and their bands
    - `metrics.json`: a digest of the results, without provenance and job
    - any other file: its SHA-256

    Raises:
        DecurError: the file is damaged.
    """
    if path.suffix == ".safetensors":
        return _tensors_checksum(path)
    if path.name not in (METRICS, CARD, MANIFEST):
        return file_checksum(path)
    tree = read_json(path)
    if path.name == CARD:
        return str(tree["checksum"])
    if path.name == MANIFEST:
        return json_checksum(tree["provenance"]["inputs"])
    return json_checksum({k: v for k, v in tree.items() if k not in ("provenance", "job")})


def _tensors_checksum(path: Path) -> str:
    """Return the checksum of a safetensors file without the provenance and job in its header."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            for key in ("provenance", "job"):
                header.get("__metadata__", {}).pop(key, None)
            digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
            while block := file.read(BLOCK):
                digest.update(block)
    except (ValueError, AttributeError, MemoryError, OverflowError):
        raise DecurError(f"{path}: is damaged (no weights); run its stage again") from None
    return f"sha256:{digest.hexdigest()}"


def json_checksum(tree: Mapping[str, Any]) -> str:
    """Return the checksum of a JSON tree, independent of the order of its keys."""
    text = json.dumps(tree, sort_keys=True)
    return checksum(text.encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        DecurError: the file is damaged, or does not contain an object.
    """
    try:
        tree = json.loads(path.read_bytes())
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise DecurError(f"{path}: is damaged (no JSON object); delete it and run its stage again")
    return tree


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; replace only a file that decur wrote.

    Raises:
        DecurError: the file exists and was not written by decur.
    """
    text = json.dumps(tree, indent=1) + "\n"
    ours = names_origin if "provenance" in tree else None
    write_ours(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), ours)
