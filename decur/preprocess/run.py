"""Convert the raw files of a dataset to paired shards.

The samples, sorted by id, are divided into shards. These are the same byte for byte, whether the
raw files are in folders or in archives, for any number of workers and after any killed run.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from decur import datasets
from decur.artifacts.paths import MANIFEST
from decur.artifacts.provenance import provenance
from decur.artifacts.records import Manifest
from decur.artifacts.sources import check_links
from decur.artifacts.timing import JobTimer
from decur.cluster.progress import progress_bar
from decur.cluster.workers import prepare_workers, worker_pool
from decur.config import DatasetSettings, Piece, deciding
from decur.datasets import Dataset, DatasetModule
from decur.datasets.folder_labels import check_classes
from decur.datasets.folder_limits import with_limits
from decur.datasets.raw_files import is_archived
from decur.errors import DecurError
from decur.preprocess.archives import find_archives, remove_fetched
from decur.preprocess.bad_samples import check_any, check_evaluation, lost_samples, unique
from decur.preprocess.completing import complete
from decur.preprocess.converting import convert, spec_of_first
from decur.preprocess.plan import PlannedShard, plan_shards
from decur.preprocess.reading import Reader, modalities_of, scenes_in
from decur.preprocess.streaming import Streaming, stream
from decur.shards.assemble import QUARANTINE, VERSION, assemble, own_folder, prepare
from decur.shards.part import FORMAT, SavedParts
from decur.shards.sample import Spec
from decur.shards.verify import verify

PACKAGES = ("numpy", "scipy", "rasterio", "h5py", "pillow", "pandas", "pyarrow")

T = TypeVar("T")

Make = Callable[[PlannedShard], None]
"""Function that completes one shard."""


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

    With `piece` this makes only every n-th shard, or reads only every n-th archive, and writes
    neither index nor card. Pieces may run at the same time, also on several machines: no two write
    the same file. A last call without `piece` checks their results, makes what is missing, and
    finishes the folder.

    Complete shards of an earlier, killed run with the same settings and data are kept. A bad sample
    ends the run or is listed in `quarantine.csv`, depending on `settings.bad_samples`.

    Each worker process imports the script that calls this function. A script that uses several
    workers must be a file, and call it below `if __name__ == "__main__":`.

    Raises:
        DecurError: the raw folder is missing, a sample is bad, no sample is good, more than 1 % of
            the evaluation split is bad, no label of a user's images shows a class, the disk is
            full, a worker process died, the script lacks the line above, or `out` contains foreign
            files.
    """
    prepare_workers(workers)
    job = JobTimer()
    folder = own_folder(out)
    folder.check()
    if not (raw / MANIFEST).is_file():
        raise DecurError(f"{raw / MANIFEST}: not found; run the download stage for {name} first")
    manifest = Manifest.read(raw / MANIFEST)
    archived = is_archived(raw)
    # Folders that were linked as a whole belong to someone else, and may have millions of files.
    check_links(raw, deep=archived or settings.source == "samples")
    if settings.folders is not None:
        settings = with_limits(name, settings, raw)
    module = datasets.load(name, settings)
    card = _card(name, module.DATASET, settings, manifest)
    found = module.scan(raw, settings)
    left_out = getattr(found, "left_out", {})
    for reason, count in left_out.items():
        print(f"{name}: {count} samples left out: {reason}", flush=True)
    records = unique(found)
    reader = Reader(name, settings, scenes_in(raw))
    spec = _spec(reader, module) if archived else spec_of_first(reader, records)
    shards = plan_shards(records, spec, _origin(card, settings))
    prepare(out, keep=True)
    folder.clear()  # makes room for the new shards
    if archived:
        origin = hashlib.sha256("".join(shard.identity for shard in shards).encode()).hexdigest()
        streaming = Streaming(reader, datasets.streamed(module), raw, out, spec, origin)
        archives = find_archives(module.DATASET, settings, raw, manifest)
        # A piece takes whole archives, because a gzipped one can only be read from its start.
        stream(streaming, _share(archives, piece), shards, workers)
        own: Sequence[PlannedShard] = shards if piece is None else []
        make: Make = partial(complete, streaming, archives)
    else:
        own, make = _share(shards, piece), partial(convert, reader, out, spec)
    _make_all(make, own, workers, name)
    if piece is not None:
        print(f"{name}, piece {piece}: done in {out}", flush=True)
        return
    parts = SavedParts(out, len(shards))
    check_any(name, parts)
    lost = lost_samples(reader.split, records, parts)
    check_evaluation(name, module.DATASET.evaluation, lost, parts)
    if settings.folders is not None:
        for line in check_classes(name, settings.folders, (r for p in parts for r in p.rows)):
            print(line, flush=True)
    by_split = Counter(split for split, _ in lost)
    facts = {"left_out": left_out, "quarantined_by_split": dict(sorted(by_split.items()))}
    faults = assemble(out, parts, spec, {**card, **facts, "job": job.record()})
    print(f"{name}: {len(records) - faults} samples in {out}", flush=True)
    if faults:
        print(f"{name}: {faults} samples left out, listed in {out / QUARANTINE}", flush=True)
    if not settings.keep_archives:
        _remove_archives(name, manifest, raw, out, workers)


def _card(
    name: str, dataset: Dataset, settings: DatasetSettings, manifest: Manifest
) -> dict[str, Any]:
    """Return the fields of the card that are known before the samples are read."""
    return {
        "dataset": name,
        "title": dataset.title,
        "licence": dataset.licence,
        "homepage": dataset.homepage,
        "classes": dataset.classes,
        "ignore": dataset.ignore,
        "raw": manifest.provenance.inputs,
        "provenance": provenance(settings, {}, PACKAGES),
    }


def _origin(card: Mapping[str, Any], settings: DatasetSettings) -> str:
    """Return everything that determines a shard, except its own records."""
    origin = {**card["provenance"].model_dump(), "settings": deciding(settings)}
    return f"{VERSION} {FORMAT} {card['raw']} {origin}"


def _spec(reader: Reader, module: DatasetModule) -> Spec:
    """Return the spec of samples that are read from archives."""
    shapes = datasets.streamed(module).shapes(reader.settings)
    return Spec(tuple(modalities_of(reader)), shapes, module.DATASET.ignore)


def _share(items: Sequence[T], piece: Piece | None) -> Sequence[T]:
    """Return the items of a piece, or all."""
    return items if piece is None else items[piece.number - 1 :: piece.of]


def _make_all(make: Make, shards: Sequence[PlannedShard], workers: int, name: str) -> None:
    """Complete all shards."""
    progress = partial(progress_bar, name, sum(len(shard.records) for shard in shards))
    if workers == 1 or not shards:
        with progress() as bar:
            for shard in shards:
                make(shard)
                bar.update(len(shard.records))
        return
    with worker_pool(workers, name) as pool, progress() as bar:
        made = {pool.submit(make, shard): len(shard.records) for shard in shards}
        for future in as_completed(made):
            future.result()
            bar.update(made[future])


def _remove_archives(name: str, manifest: Manifest, raw: Path, out: Path, workers: int) -> None:
    """Remove the fetched archives, once every byte of the shards is verified.

    Raises:
        DecurError: the shards have a fault; nothing is removed.
    """
    if faults := verify(out, workers=workers):
        raise DecurError(f"{faults[0]}; no archive was removed")
    print(f"{name}: {remove_fetched(manifest, raw)} archives removed", flush=True)
