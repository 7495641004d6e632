"""Preprocessing: the raw files of a dataset become paired shards.

The samples, sorted by id, are cut into shards, each made whole by one worker process, so the folder
is the same byte for byte whatever the number of workers, and whatever was killed on the way.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from decur import datasets
from decur.artifacts.files import UnreadableError, check_readable
from decur.artifacts.paths import MANIFEST
from decur.artifacts.provenance import provenance
from decur.artifacts.records import Manifest
from decur.artifacts.sources import check_links
from decur.artifacts.timing import JobTimer
from decur.cluster.progress import progress_bar
from decur.cluster.workers import prepare_workers, worker_pool
from decur.config import DatasetSettings, Piece, deciding
from decur.datasets import Record, Records, raw_files
from decur.datasets.folder_labels import check_classes
from decur.datasets.folder_limits import with_limits
from decur.errors import DecurError
from decur.shards import Modality, Sample
from decur.shards.assemble import QUARANTINE, VERSION, assemble, own_folder, prepare
from decur.shards.part import FORMAT, Fault, Shard, ShardPart, load_part, save_part
from decur.shards.sample import TRAIN, Spec
from decur.shards.writer import SHARD_BYTES

PACKAGES = ("numpy", "scipy", "rasterio", "h5py", "pillow", "pandas", "pyarrow")

MOST_LOST = 0.01
"""Share of the evaluation split that may be bad and left out."""

FEWEST_SHARDS = 16
"""A small dataset is cut into so many, to have work for every worker."""


def preprocess(
    name: str,
    settings: DatasetSettings,
    raw: Path,
    out: Path,
    *,
    workers: int = 1,
    piece: Piece | None = None,
) -> None:
    """Convert every sample below `raw` and write the shards folder `out`.

    With `piece` only every so many-th shard is written, and neither index nor card. Pieces may run
    at once, on several machines too: no two write the same shard. A last call without `piece` reads
    and checks what they left, makes what is missing, and finishes the folder.

    Shards that an earlier, killed run of the same settings and data left whole are kept. A bad
    sample ends all or is listed in `quarantine.csv`, as `settings.bad_samples` says.

    Each worker process imports the script that calls this function. A script that asks for several
    workers must be a file, and call it below `if __name__ == "__main__":`.

    Raises:
        DecurError: the raw folder is missing, a sample is bad, there is no good one, more than 1 %
            of the evaluation split are bad, no label of a user's images shows a class, the disk
            is full, a worker process died, the script lacks the line above, or `out` holds
            anything that is not ours.
    """
    prepare_workers(workers)
    job = JobTimer()
    shards_folder = own_folder(out)
    shards_folder.check()
    manifest = raw / MANIFEST
    if not manifest.is_file():
        raise DecurError(f"{manifest}: not found; run the download stage for {name} first")
    check_links(raw, deep=settings.source == "samples")  # other sources are linked as a whole
    if settings.folders is not None:
        settings = with_limits(name, settings, raw)
    module = datasets.load(name, settings)
    card = {
        "dataset": name,
        "title": module.DATASET.title,
        "licence": module.DATASET.licence,
        "homepage": module.DATASET.homepage,
        "classes": module.DATASET.classes,
        "ignore": module.DATASET.ignore,
        "raw": Manifest.read(manifest).provenance.inputs,
        "provenance": provenance(settings, {}, PACKAGES),
    }
    found = module.scan(raw, settings)
    left_out = found.left_out if isinstance(found, Records) else {}
    for reason, count in left_out.items():
        print(f"{name}: {count} samples left out: {reason}", flush=True)
    records = _unique(found)
    reader = Reader(name, settings, _scenes(raw))
    spec = _spec(reader, records)
    size = max(1, min(SHARD_BYTES // spec.sample_bytes, -(-len(records) // FEWEST_SHARDS)))
    shards = [records[i : i + size] for i in range(0, len(records), size)]
    make = partial(_make_shard, reader, out, spec, _origin(card, settings))
    prepare(out, keep=True)
    shards_folder.clear()  # which makes room for the new ones
    if piece is not None:
        own = list(enumerate(shards))[piece.number - 1 :: piece.of]
        _make_all(make, own, workers, name)
        print(f"{name}, piece {piece}: {len(own)} of {len(shards)} shards in {out}", flush=True)
        return
    parts = _make_all(make, list(enumerate(shards)), workers, name)
    lost = _lost(reader, records, parts)
    _check_evaluation(name, module.DATASET.evaluation, lost, parts)
    if settings.folders is not None:
        for line in check_classes(name, settings.folders, [r for p in parts for r in p.rows]):
            print(line, flush=True)
    by_split = Counter(split for split, _ in lost)
    facts = {"left_out": left_out, "quarantined_by_split": dict(sorted(by_split.items()))}
    assemble(out, parts, spec, {**card, **facts, "job": job.record()})
    faults = sum(len(part.faults) for part in parts)
    print(f"{name}: {len(records) - faults} samples in {out}", flush=True)
    if faults:
        print(f"{name}: {faults} samples left out, listed in {out / QUARANTINE}", flush=True)


def stored_modalities(name: str, settings: DatasetSettings) -> list[Modality]:
    """The modalities to store: those of the settings, or the dataset's first two.

    Raises:
        DecurError: the dataset has no such modality.
    """
    dataset = datasets.load(name, settings).DATASET
    known = {modality.name: modality for modality in dataset.modalities}
    return [known[wanted] for wanted in raw_files.stored_modalities(dataset, settings)]


def _unique(records: Sequence[Record]) -> list[Record]:
    """The records, of which one of each id may be without a fault.

    It is the first that is not for training, if there is any, else the first: what is in two splits
    is never trained on.
    """
    kept: dict[str, int] = {}
    for place, record in enumerate(records):
        first = kept.setdefault(record.id, place)
        if records[first].split == TRAIN != record.split:
            kept[record.id] = place
    unique = []
    for place, record in enumerate(records):
        if place != kept[record.id]:
            fault = f"{_source(record)}: duplicate sample id '{record.id}'"
            record = dataclasses.replace(record, fault=fault)
        unique.append(record)
    return unique


def _lost(
    reader: "Reader", records: Sequence[Record], parts: Sequence[ShardPart]
) -> list[tuple[str, Fault]]:
    """Each bad sample with its split, without those of which there is a good one of the same id."""
    good = {row["id"] for part in parts for row in part.rows}
    split_of = {record.id: reader.split(record) for record in records if record.id not in good}
    faults = (fault for part in parts for fault in part.faults)
    return [(split_of[fault.id], fault) for fault in faults if fault.id in split_of]


def _check_evaluation(
    name: str, split: str, lost: Sequence[tuple[str, Fault]], parts: Sequence[ShardPart]
) -> None:
    """Refuse to evaluate on a split of which more than a hundredth is bad."""
    faults = [fault for of, fault in lost if of == split]
    whole = len(faults) + sum(row["split"] == split for part in parts for row in part.rows)
    if len(faults) > MOST_LOST * whole:
        raise DecurError(
            f"{name}: {len(faults)} of {whole} samples of the evaluation split '{split}' are bad, "
            f"more than {MOST_LOST:.0%}; the first: {faults[0].reason}"
        )


def _source(record: Record) -> str:
    return str(next(iter(record.paths.values()), record.id))


@dataclass(frozen=True)
class Reader:
    """How a worker reads a sample; `scenes` has split and factors by id where it is synthetic."""

    name: str
    settings: DatasetSettings
    scenes: Mapping[str, Mapping[str, Any]]

    @property
    def skips(self) -> bool:
        """Whether bad samples are left out."""
        return self.settings.bad_samples == "skip"

    def split(self, record: Record) -> str:
        """The split of a sample."""
        if record.id not in self.scenes:
            return record.split
        evaluation = datasets.load(self.name, self.settings).DATASET.evaluation
        return evaluation if self.scenes[record.id]["split"] == "test" else TRAIN

    def __call__(self, record: Record) -> Sample:
        """Read a sample.

        Raises:
            DecurError: it is bad.
            UnreadableError: a file of it cannot be read, which does not make it bad.
        """
        if record.fault:
            raise DecurError(record.fault)
        module = datasets.load(self.name, self.settings)
        try:
            sample = module.read(record, self.settings)
        except DecurError:
            for path in record.paths.values():
                check_readable(path)
            raise
        if sample.id not in self.scenes:
            return sample
        factors = {k: v for k, v in self.scenes[sample.id].items() if k != "split"}
        return dataclasses.replace(sample, split=self.split(record), factors=factors)


def _scenes(raw: Path) -> dict[str, dict[str, Any]]:
    path = raw / "scenes.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype={"id": str}).set_index("id")
    return table.to_dict(orient="index")  # type: ignore[return-value]


def _spec(reader: Reader, records: Sequence[Record]) -> Spec:
    """What the first good sample is like, and so all others must be."""
    modalities = stored_modalities(reader.name, reader.settings)
    ignore = datasets.load(reader.name, reader.settings).DATASET.ignore
    reason = "the raw folder is empty"
    for record in records:
        try:
            return Spec.of(reader(record), modalities, ignore)
        except DecurError as error:
            if not reader.skips or isinstance(error, UnreadableError):
                raise
            reason = str(error)
    raise DecurError(f"{reader.name}: no sample of {len(records)} is good; the last: {reason}")


def _origin(card: Mapping[str, Any], settings: DatasetSettings) -> str:
    """All that a shard comes from but its own records."""
    origin = {**card["provenance"].model_dump(), "settings": deciding(settings)}
    return f"{VERSION} {FORMAT} {card['raw']} {origin}"


def _make_all(
    make: Callable[[int, Sequence[Record]], ShardPart],
    shards: Sequence[tuple[int, Sequence[Record]]],
    workers: int,
    name: str,
) -> list[ShardPart]:
    """The parts of numbered shards, in order."""
    progress = partial(progress_bar, name, sum(len(records) for _, records in shards))
    if workers == 1:
        parts = []
        with progress() as bar:
            for number, records in shards:
                parts.append(make(number, records))
                bar.update(len(records))
        return parts
    with worker_pool(workers, name) as pool, progress() as bar:
        made = {pool.submit(make, *item): len(item[1]) for item in shards}
        for future in as_completed(made):
            future.result()
            bar.update(made[future])
        return [future.result() for future in made]


def _make_shard(
    reader: Reader, out: Path, spec: Spec, origin: str, number: int, records: Sequence[Record]
) -> ShardPart:
    """Read the records of one shard and write it, unless it is there already."""
    identity = hashlib.sha256(f"{origin} {spec} {records}".encode()).hexdigest()
    part = load_part(out, number, identity)
    if part is not None and (reader.skips or not part.faults):
        return part
    with Shard(out, number, spec) as shard:
        for record in records:
            try:
                sample = reader(record)
                spec.stored(sample)
            except DecurError as error:
                if not reader.skips or isinstance(error, UnreadableError):
                    raise
                shard.part.faults.append(Fault(record.id, _source(record), str(error)))
            else:
                shard.add(sample)
    save_part(out, number, identity, shard.part)
    return shard.part
