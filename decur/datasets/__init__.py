"""Datasets: the origin of each, how its raw files become samples, and its labels.

`decur.config.datasets.DATASETS` names a module per dataset, which has

* `DATASET`, a `Dataset`: title, licence, bands, classes, archives;
* `scan(root, settings)`: a `Record` of each sample found below a raw folder, sorted by id; an
  incomplete one has a fault. `Records` pack those of a large dataset, and say what its rules leave
  out;
* `read(record, settings) -> Sample`: the arrays of one sample;
* where it has archives that are read without unpacking them, a `Streamed` named `STREAMED`;
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
    """A file to fetch: its name, its URLs (the same bytes at each), its size and its checksum.

    The checksum is "md5:..." or "sha256:..."; None where nobody published one.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class Archive:
    """Files that are one archive when joined in order, and its place in the raw folder.

    A "tar" is gzipped; a "zip" and a plain "file" have one part. Members lose their first `strip`
    folders and go below `into`. `page` is where a reader finds the parts (else the homepage).
    `splits`, if given, is the setting that needs them. `scanned` is how the names of the members
    end whose content a scan needs: it is kept where the archive is not unpacked.
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
    """Facts about a dataset; without `archives` its raw files can only be linked.

    `classes` are in label order (multi-label position, or mask value), `ignore` is the mask value
    that no metric counts, `evaluation` the split that results are reported on.
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
        """The colour of every mask value, (256, 3); black where no class has the value."""
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self.colours)] = np.reshape(self.colours, (-1, 3))
        return colours


PACKET = 32
"""How many samples are packed together, which look alike; to get one, all are unpacked."""


@dataclass(frozen=True, slots=True)
class Record:
    """A sample before reading: its id, its split and the files it is made from.

    `paths` are named as the dataset's `read` needs them; `patch` numbers the crop in a tile;
    `labels` are names of classes that a common list gives it; `fault` says why it is no sample, if
    that shows already (a partner is missing): never read it.
    """

    id: str
    split: str
    paths: dict[str, Path] = field(default_factory=dict)
    patch: int = 0
    place: str = ""
    labels: tuple[str, ...] = ()
    fault: str = ""


class Component(NamedTuple):
    """What one place in an archive holds of a sample.

    `arrays` are those to store, uint8, by name; `notes` is what else belongs to the sample or must
    fit the other components, of types that JSON has.
    """

    arrays: dict[str, NDArray[np.uint8]]
    notes: dict[str, Any]


@dataclass(frozen=True)
class Streamed:
    """How the samples of a dataset are read component by component, as an archive's members pass.

    Attributes:
        shapes: the shape of every stored array by name, given the settings.
        components: by the name of each component of a record, in the order in which they are
            read, the keys of the `paths` that it is read from: files, or folders with all that they
            hold. They lie in one archive.
        read: one component of a record; raises a DecurError if it is bad.
        join: the sample of a record from all its components; raises a DecurError if these do not
            fit.
    """

    shapes: Callable[[DatasetSettings], dict[str, tuple[int, ...]]]
    components: Callable[[Record, DatasetSettings], dict[str, tuple[str, ...]]]
    read: Callable[[Record, str, DatasetSettings], Component]
    join: Callable[[Record, Mapping[str, Component], DatasetSettings], Sample]

    def sample(self, record: Record, settings: DatasetSettings) -> Sample:
        """Read one sample from files.

        Raises:
            DecurError: a component is bad, or they do not fit.
        """
        names = self.components(record, settings)
        return self.join(record, {n: self.read(record, n, settings) for n in names}, settings)


class Records(Sequence[Record]):
    """The samples of a dataset, packed: about a hundred bytes each, however many files it is of.

    `left_out` counts by reason the samples that the dataset's rules leave out.
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
    """The shape of a dataset module."""

    DATASET: Dataset

    def scan(self, root: Path, settings: DatasetSettings) -> Sequence[Record]:
        """List the samples below a raw folder."""

    def read(self, record: Record, settings: DatasetSettings) -> Sample:
        """Read one sample."""

    def arrange_samples(self, samples: Path, root: Path) -> None:
        """Fill a raw folder from the folder of sample frames, by links where nothing changes."""


def load(name: str, settings: DatasetSettings | None = None) -> DatasetModule:
    """The module of a dataset; for a user's own folders, an object of `folders.Folders`.

    Raises:
        DecurError: no dataset of that name, or own folders under the name of a known dataset.
    """
    if settings is not None and settings.folders is not None:
        if name in DATASETS:
            raise DecurError(f"datasets.{name}: is a known dataset; give your folders another name")
        from decur.datasets.folders import Folders

        return Folders(name, settings.folders)
    if name not in DATASETS:
        raise DecurError(
            f"dataset '{name}': unknown; known are {', '.join(DATASETS)}; for your own images give "
            "`source: folders`"
        )
    module: DatasetModule = importlib.import_module(DATASETS[name].module)
    return module


def streamed(module: DatasetModule) -> Streamed:
    """How a dataset is read from archives that are not unpacked.

    Raises:
        DecurError: it is not.
    """
    found: Streamed | None = getattr(module, "STREAMED", None)
    if found is None:
        raise DecurError(
            f"datasets.{module.DATASET.name}.unpack: set it to true; nobody has said how to read "
            "these archives as they are"
        )
    return found


def recorded_scaling(
    dataset: str,
    modality: str,
    scaling: Scaling | str | None,
    limits: Sequence[Sequence[float]] | None,
) -> Scaling:
    """The scaling of a modality by a card or weights of whatever version.

    Earlier versions recorded `limits`, where there were any, and the scaling in words: for known
    datasets it is that of their module, for own images 8 bits as stored.
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
    """How the images of a modality became 8 bits, by a card of whatever version.

    Raises:
        KeyError: the card has no such modality.
    """
    stored = {found.name: found for found in card.modalities}[modality]
    return recorded_scaling(card.dataset, modality, stored.scaling, stored.limits)


def facts(name: str, card: Card) -> Dataset:
    """The facts about the dataset of a shards folder; of own images those in its card."""
    if name in DATASETS:
        return load(name).DATASET
    from decur.datasets.folders import described

    return described(card)
