"""Records of artifacts: content, inputs, settings and the job that made each artifact.

A record is a JSON object in a file; the record of weights is in the header of the weights file.
Keys that a record does not declare are kept, so that records of other versions can be read.
"""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import safetensors
from pydantic import Field, ValidationError

from decur.artifacts.files import file_checksum
from decur.artifacts.ownership import write_with_record
from decur.artifacts.paths import ArtifactKind, Cell, Place, archive_folders
from decur.artifacts.provenance import (
    Origin,
    RecordPart,
    json_checksum,
    read_json,
    write_json,
)
from decur.artifacts.scaling import Scaling
from decur.artifacts.timing import JobRecord
from decur.errors import DecurError


@dataclass(frozen=True)
class Input:
    """An input of an artifact: its path, and its checksum if one was recorded.

    `elsewhere` lists other possible paths of a file that is not an artifact. `size`, in bytes, is
    set for large files, whose content is not read again. `facts` are lines to show to the user.
    """

    path: Path
    checksum: str | None
    is_artifact: bool = True
    elsewhere: tuple[Path, ...] = ()
    size: int | None = None
    facts: tuple[str, ...] = ()


class Record(RecordPart, ABC):
    """Common base of all records; `shown` names the settings that the lineage lists."""

    kind: ClassVar[ArtifactKind]
    shown: ClassVar[tuple[str, ...]] = ()
    provenance: Origin = Field(default_factory=Origin)
    job: JobRecord | None = None

    @abstractmethod
    def inputs(self, place: Place) -> list[Input]:
        """Return the inputs of the artifact, below the results folder that contains it."""

    def summary(self) -> Iterator[str]:
        """Yield lines that summarise the artifact for a reader."""
        yield from ()

    def own_checksums(self, path: Path, record: Path) -> list[tuple[str, str]]:
        """Return pairs of current and recorded checksums; empty if the record has none.

        `path` is the file to check, `record` is the file that this record was read from.
        """
        return []

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a record.

        Raises:
            DecurError: the file is damaged, or lacks a key that this version requires.
        """
        return cls.parse(read_json(path), path)

    @classmethod
    def parse(cls, tree: Mapping[str, Any], path: Path) -> Self:
        """Check a record that was read from `path`; raise the same errors as `read`."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(map(str, problem["loc"]))
            raise DecurError(
                f"{path}: is not a valid {cls.kind} record of this version ({key}: "
                f"{problem['msg']}); run its stage again"
            ) from None

    def write(self, path: Path) -> None:
        """Write the record; replace only a record that decur wrote.

        Raises:
            DecurError: the file exists and was not written by decur.
        """
        write_json(path, self.dump())

    def dump(self) -> dict[str, Any]:
        """Return the record as a JSON tree, without keys whose value is None."""
        return self.model_dump(mode="json", exclude_none=True)


class StoredArchive(RecordPart):
    """An archive from which raw files were unpacked."""

    name: str
    bytes: int
    checksum: str
    urls: tuple[str, ...] = ()


class Source(RecordPart):
    """A folder or file of the user with raw files, and a digest of its content."""

    path: str
    content: str | None


class Manifest(Record):
    """Record of the complete raw files of a dataset."""

    kind = "manifest"
    shown = ("source", "scenes", "splits")
    dataset: str = ""
    files: int = 0
    bytes: int = 0
    archives: tuple[StoredArchive, ...] = ()
    folder: str | None = None
    sources: dict[str, Source] = Field(default_factory=dict)

    def inputs(self, place: Place) -> list[Input]:
        """Return the archives, beside the raw folder or in the folder named in the settings."""
        given = self.provenance.settings.get("archives")
        folders = archive_folders(place.record.parent, given)
        found = []
        for archive in self.archives:
            path, *others = (folder / archive.name for folder in folders)
            facts = (f"{archive.bytes} bytes", *archive.urls)
            found.append(Input(path, archive.checksum, False, tuple(others), archive.bytes, facts))
        return found

    def summary(self) -> Iterator[str]:
        """Summarise the raw files; see `Record.summary`."""
        yield f"{self.files} files, {self.bytes / 1e6:.1f} MB"
        if self.folder:
            yield f"from {self.folder}"


class StoredModality(RecordPart):
    """A modality in shards: its bands, its scaling, and statistics of the training samples.

    `percentiles` has the keys "1", "50" and "99", with one value per band. `shape` is that of one
    sample: (seasons, bands, height, width). Cards of earlier versions have scalings as text.
    """

    name: str
    bands: tuple[str, ...]
    scaling: Scaling | str
    shape: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    percentiles: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    limits: tuple[tuple[float, float], ...] | None = None


class Card(Record):
    """Record of a folder of complete shards: the content of each file, and checksums."""

    kind = "card"
    shown = ("pixels", "modalities", "seasons", "splits", "bad_samples")
    dataset: str = ""
    title: str = ""
    licence: str = ""
    homepage: str = ""
    classes: tuple[str, ...] = ()
    ignore: int | None = None
    raw: dict[str, str] = Field(default_factory=dict)
    left_out: dict[str, int] = Field(default_factory=dict)
    quarantined_by_split: dict[str, int] = Field(default_factory=dict)
    layout: int = 0
    dtype: str = "uint8"
    modalities: tuple[StoredModality, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    quarantined: int = 0
    files: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    contents: dict[str, dict[str, Any]] = Field(default_factory=dict)
    checksum: str = ""
    card_sha256: str = ""

    def modality(self, name: str) -> StoredModality | None:
        """Return the modality with this name; None if there is none."""
        return next((found for found in self.modalities if found.name == name), None)

    def inputs(self, place: Place) -> list[Input]:
        """Return the raw files."""
        return [Input(Path(place.paths.manifest(self.dataset)), json_checksum(self.raw))]

    def summary(self) -> Iterator[str]:
        """Summarise the shards; see `Record.summary`."""
        yield f"samples: {pairs(self.counts)}; left out: {self.quarantined}"

    def own_checksums(self, path: Path, record: Path) -> list[tuple[str, str]]:
        """Return the digests of the card; see `Record.own_checksums`."""
        return [(card_digest(read_json(record)), self.card_sha256)]


class ReleasedFile(RecordPart):
    """The file from which weights were imported, its licence, and notes about it."""

    file: str
    licence: str
    notes: tuple[str, ...] = ()


class Weights(Record):
    """Record of the backbones and projectors of a run, or of imported backbones.

    Per modality: `bands`, in order; `scalings` to 8 bits; and `seen`, the range of the stored
    values of each band that covers 98 % of the pixels. Earlier versions wrote `limits` and scalings
    as text. `preprocessing` and `released` describe imported weights and their training data.
    """

    kind = "weights"
    shown = (
        *("method", "seed", "arch", "crop", "epochs", "batch_size", "optimizer", "lr"),
        *("dim", "dim_common", "precision"),
    )
    bands: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    scalings: dict[str, Scaling | str] = Field(default_factory=dict)
    limits: dict[str, tuple[tuple[float, float], ...] | None] = Field(default_factory=dict)
    seen: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    preprocessing: dict[str, dict[str, Any]] = Field(default_factory=dict)
    released: ReleasedFile | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check the record in the header of a weights file; see `Record.read`."""
        try:
            with safetensors.safe_open(path, framework="np") as file:
                tree = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
        except (OSError, safetensors.SafetensorError, ValueError) as error:
            raise DecurError(
                f"{path}: is not a readable weights file ({error}); name a weights.safetensors, or "
                "delete the damaged file and run the pretrain stage again"
            ) from None
        return cls.parse(tree, path)

    def inputs(self, place: Place) -> list[Input]:
        """Return the shards, and the files of ImageNet weights and released weights, if any."""
        files = map(self.provenance.settings.get, ("imagenet", "released"))
        given = {Path(file).name: Path(file) for file in files if file is not None}
        found = []
        for name, checksum in self.provenance.inputs.items():
            if name in given:
                found.append(Input(given[name], checksum, is_artifact=False))
            elif self.released is not None:  # the original folder is not recorded
                found.append(Input(place.record.with_name(name), checksum, is_artifact=False))
            else:
                found.append(Input(Path(place.paths.card(name)), checksum))
        return found


def _inputs_of_run(origin: Origin, place: Place) -> list[Input]:
    """Return the weights of a run, and the shards."""
    weights = Path(place.paths.weights(origin.settings["run"]))
    shards = [
        Input(Path(place.paths.card(name)), checksum)
        for name, checksum in origin.inputs.items()
        if name != weights.name
    ]
    return [Input(weights, origin.inputs.get(weights.name)), *shards]


class Metrics(Record):
    """Record of one transfer evaluation: metrics in percent, by name, and their provenance."""

    kind = "metrics"
    shown = ("run",)
    run: str = ""
    cell: str
    metrics: dict[str, float]

    def inputs(self, place: Place) -> list[Input]:
        """Return the weights and the shards."""
        return _inputs_of_run(self.provenance, place)

    def summary(self) -> Iterator[str]:
        """Summarise the recipe and the metrics; see `Record.summary`."""
        cell = Cell.parse(self.cell)
        recipes = self.provenance.settings["recipes"].get(cell.dataset, {})
        recipe = recipes.get(cell.protocol.replace("-", "_"))
        if recipe is not None:
            yield f"recipe: {pairs({k: recipe[k] for k in ('optimizer', 'lr', 'epochs')})}"
        yield f"measured: {pairs({k: round(v, 1) for k, v in self.metrics.items()})}"


class Transferred(Record):
    """Record of all transfer evaluations that one job made: the fingerprints of their metrics.

    The workflow declares it as the output of the job, because the cells differ between runs.
    """

    kind = "transferred"
    shown = ("run",)
    run: str
    cells: dict[str, str]

    def inputs(self, place: Place) -> list[Input]:
        """Return the metrics of each cell."""
        paths = {cell: Path(place.paths.metrics(self.run, cell)) for cell in self.cells}
        return [Input(paths[cell], checksum) for cell, checksum in self.cells.items()]

    def summary(self) -> Iterator[str]:
        """Count the cells; see `Record.summary`."""
        yield f"{len(self.cells)} transfer evaluations"


class Listing(Record):
    """Record of several files: their checksums, by path relative to the record's folder.

    A file has several checksums if its job was killed while it was being replaced.
    """

    files: dict[str, str | list[str]] = Field(default_factory=dict)

    def write_files(self, record: Path, contents: Mapping[Path, bytes]) -> None:
        """Write files, and this record with their checksums; replace only files that decur wrote.

        Raises:
            DecurError: one of the files exists and was not written by decur.
        """
        tree = {key: value for key, value in self.dump().items() if key != "files"}
        write_with_record(record, tree, contents)

    def own_checksums(self, path: Path, record: Path) -> list[tuple[str, str]]:
        """Return the checksums of a listed file; see `Record.own_checksums`."""
        if path == record:
            return []
        listed = self.files.get(os.path.relpath(path, record.parent))
        return [(file_checksum(path), listed if isinstance(listed, str) else "not complete")]


class ExplanationRecord(Listing):
    """Record of the result of an explainer: its CSV, and overall numbers in `facts`."""

    kind = "explanation"
    shown = ("run", "recipe")
    facts: dict[str, Any] = Field(default_factory=dict)

    def inputs(self, place: Place) -> list[Input]:
        """Return the weights and the shards."""
        return _inputs_of_run(self.provenance, place)


class TableRecord(Listing):
    """Record of a table; `page`, a `decur.tables.pages.Page`, is None in earlier versions."""

    kind = "table"
    page: dict[str, Any] | None = None

    def inputs(self, place: Place) -> list[Input]:
        """Return all artifacts from which the table was compiled."""
        named = self.provenance.inputs.items()
        return [Input(Path(place.paths.root, name), checksum) for name, checksum in named]

    def summary(self) -> Iterator[str]:
        """Summarise the experiment; see `Record.summary`."""
        settings = self.provenance.settings
        yield f"{settings['experiment']['title']}; scale {settings['scale']}"
        yield f"seeds {settings['seeds']} of {', '.join(settings['methods'])}"


RECORDS: dict[ArtifactKind, type[Record]] = {
    record.kind: record
    for record in (Manifest, Card, Weights, Metrics, Transferred, ExplanationRecord, TableRecord)
}


def card_digest(card: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the JSON tree of a card, without its key `card_sha256`."""
    rest = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def pairs(tree: Mapping[str, Any]) -> str:
    """Format a mapping as text, such as `a 1, b (c 2)`; nested mappings are in brackets."""
    parts = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            value = f"({pairs(value)})"
        elif isinstance(value, list):
            value = "+".join(map(str, value))
        parts.append(f"{key} {value}")
    return ", ".join(parts)
