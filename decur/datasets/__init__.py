"""Describe datasets: their archives, how raw files become samples, and their labels.

`decur.config.datasets.DATASETS` names one module per dataset, which has

* `DATASET`, a `Dataset`: title, licence, bands, classes, archives;
* `scan(root, settings)`: one `Record` per sample found below a raw folder, sorted by id. The
  record of an incomplete sample has a fault. Large datasets return `Records`, which also count the
  samples that the dataset's rules leave out;
* `read(record, settings) -> Sample`: the arrays of one sample;
* `STREAMED`, a `Streamed`, if its archives can be read without unpacking them;
* `arrange_samples(samples, root)`: link the sample frames in the layout of the official archives.
"""

import importlib
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.records import Card
from decur.artifacts.scaling import Scaling
from decur.config import DatasetSettings
from decur.config.datasets import DATASETS
from decur.errors import DecurError
from decur.shards import Modality, Sample


@dataclass(frozen=True)
class RemoteFile:
    """Describe a file to fetch: its name, its URLs (the same bytes at each), size and checksum.

    The checksum is "md5:..." or "sha256:...", or None if none is published.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class Archive:
    """Describe an archive: files that are joined in order, and its place in the raw folder.

    A "tar" is gzipped; a "zip" and a plain "file" have one part. Members lose their first `strip`
    folders and are written below `into`. `page` is the web page with the parts (default: the
    homepage). `splits`, if given, is the setting that needs the archive. `scanned` is the name
    ending of the members whose content a scan needs: it is kept if the archive is not unpacked.
    """

    parts: tuple[RemoteFile, ...]
    kind: Literal["tar", "zip", "file"]
    into: str = ""
    strip: int = 0
    page: str = ""
    splits: str = ""
    scanned: str = ""


@dataclass(frozen=True)
class Dataset:
    """Describe a dataset; without `archives` its raw files can only be linked.

    `classes` are in label order (multi-label position, or mask value). `ignore` is the mask value
    that metrics ignore. `evaluation` is the split that results are reported on.
    """

    name: str
    title: str
    modalities: tuple[Modality, ...]
    licence: str
    homepage: str
    classes: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    ignore: int | None = None
    evaluation: str = "test"
    archives: tuple[Archive, ...] = ()

    def palette(self) -> NDArray[np.uint8]:
        """Return the colour of every mask value, (256, 3); black for values without a class."""
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self.colours)] = np.reshape(self.colours, (-1, 3))
        return colours


PACKET = 32
"""Number of similar records compressed together; reading one of them unpacks all."""


@dataclass(frozen=True, slots=True)
class Record:
    """Describe a sample before reading: its id, its split and its files.

    The keys of `paths` are those that the dataset's `read` needs. `patch` is the number of the crop
    in a tile. `labels` are class names from a shared list. `fault` explains why this cannot be a
    sample, if a scan shows it (a partner is missing): such a record is never read.
    """

    id: str
    split: str
    paths: dict[str, Path] = field(default_factory=dict)
    patch: int = 0
    place: str = ""
    labels: tuple[str, ...] = ()
    fault: str = ""


class Component(NamedTuple):
    """Hold the part of a sample that one place in an archive contains.

    `arrays` are the uint8 arrays to store, by name. `notes` is everything else that belongs to the
    sample or must match the other components; its types must be those of JSON.
    """

    arrays: dict[str, NDArray[np.uint8]]
    notes: dict[str, Any]


@dataclass(frozen=True)
class Streamed:
    """Read a dataset's samples component by component, as the members of an archive pass by.

    Attributes:
        shapes: returns the shape of every stored array by name, given the settings.
        components: returns the components of a record in reading order. Each has a name and the
            keys of the `paths` it is read from: files, or folders with all their content. All
            paths of a component are in one archive.
        read: reads one component of a record; raises a DecurError if it is bad.
        join: makes the sample of a record from all its components; raises a DecurError if they do
            not fit together.
    """

    shapes: Callable[[DatasetSettings], dict[str, tuple[int, ...]]]
    components: Callable[[Record, DatasetSettings], dict[str, tuple[str, ...]]]
    read: Callable[[Record, str, DatasetSettings], Component]
    join: Callable[[Record, Mapping[str, Component], DatasetSettings], Sample]

    def sample(self, record: Record, settings: DatasetSettings) -> Sample:
        """Read one sample from files.

        Raises:
            DecurError: a component is bad, or the components do not fit together.
        """
        names = self.components(record, settings)
        return self.join(record, {n: self.read(record, n, settings) for n in names}, settings)


class Records(Sequence[Record]):
    """Hold the records of a dataset in about a hundred bytes each, however many files each has.

    `left_out` counts the samples that the dataset's rules leave out, by reason.
    """

    def __init__(
        self, records: Iterable[Record], left_out: Mapping[str, int] | None = None
    ) -> None:
        self.left_out = {reason: count for reason, count in (left_out or {}).items() if count}
        self._packets: list[bytes] = []
        self._count, rest = 0, iter(records)
        while packet := list(islice(rest, PACKET)):
            self._packets.append(zlib.compress(pickle.dumps(packet), 1))
            self._count += len(packet)
        self._packet = lru_cache(maxsize=2)(self._unpack)

    def _unpack(self, number: int) -> list[Record]:
        packet: list[Record] = pickle.loads(zlib.decompress(self._packets[number]))
        return packet

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        for number in range(len(self._packets)):
            yield from self._packet(number)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        places = range(self._count)[place]
        if isinstance(places, range):
            return [self._at(number) for number in places]
        return self._at(places)

    def _at(self, place: int) -> Record:
        packet, rest = divmod(place, PACKET)
        return self._packet(packet)[rest]


class DatasetModule(Protocol):
    """Declare the interface of a dataset module."""

    DATASET: Dataset

    def scan(self, root: Path, settings: DatasetSettings) -> Sequence[Record]:
        """List the samples below a raw folder."""

    def read(self, record: Record, settings: DatasetSettings) -> Sample:
        """Read one sample."""

    def arrange_samples(self, samples: Path, root: Path) -> None:
        """Fill a raw folder from the folder of sample frames, with links to unchanged files."""


def load(name: str, settings: DatasetSettings | None = None) -> DatasetModule:
    """Load the module of a dataset; for a user's own folders, a `folders.Folders` object.

    Raises:
        DecurError: no dataset has this name, or own folders have the name of a built-in dataset.
    """
    if settings is not None and settings.folders is not None:
        if name in DATASETS:
            raise DecurError(
                f"datasets.{name}: is a built-in dataset; give your folders another name"
            )
        from decur.datasets.folders import Folders

        return Folders(name, settings.folders)
    if name not in DATASETS:
        raise DecurError(
            f"dataset '{name}': unknown; known are {', '.join(DATASETS)}; for your own images set "
            "`source: folders`"
        )
    module: DatasetModule = importlib.import_module(DATASETS[name].module)
    return module


def streamed(module: DatasetModule) -> Streamed:
    """Return how a dataset is read from archives that are not unpacked.

    Raises:
        DecurError: the dataset does not support it.
    """
    found: Streamed | None = getattr(module, "STREAMED", None)
    if found is None:
        raise DecurError(
            f"datasets.{module.DATASET.name}.unpack: is false, but these archives can only be read "
            "unpacked; set it to true"
        )
    return found


def recorded_scaling(
    dataset: str,
    modality: str,
    scaling: Scaling | str | None,
    limits: Sequence[Sequence[float]] | None,
) -> Scaling:
    """Return the scaling of a modality from a card or weights of any version.

    Earlier versions recorded `limits`, if any, and the scaling in words. For these, the scaling is
    that of the dataset's module, or 8 bits as stored for own images.
    """
    if isinstance(scaling, Scaling):
        return scaling
    if limits is not None:
        return Scaling.stretched(limits)
    if dataset in DATASETS:
        for known in load(dataset).DATASET.modalities:
            if known.name == modality:
                return known.typed_scaling
    return Scaling.stored()


def scaling_in(card: Card, modality: str) -> Scaling:
    """Return how the images of a modality were scaled to 8 bits, from a card of any version.

    Raises:
        KeyError: the card does not list the modality.
    """
    stored = {found.name: found for found in card.modalities}[modality]
    return recorded_scaling(card.dataset, modality, stored.scaling, stored.limits)


def facts(name: str, card: Card) -> Dataset:
    """Return the description of a shards folder's dataset; for own images, from the card."""
    if name in DATASETS:
        return load(name).DATASET
    from decur.datasets.folders import described

    return described(card)
