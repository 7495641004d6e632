"""Reading batches from shards: ours, by plain reads, against memory maps of the same files.

Batches of random rows and seasons, as pretraining draws them, in one process, the files in the
page cache. Time of one pass, median of several, and by how much a pass makes the resident memory of
the process grow, which is what SLURM may kill by (`JobAcctGatherParams=OverMemoryKill`).

    python tests/benchmarks/bench_shards.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import write_shards
from numpy.typing import NDArray

from decur.shards import PairedShards

Batch = Callable[[str, NDArray[np.int64], NDArray[np.int64]], NDArray[np.uint8]]


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return (
        sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssFile")))
        / 1024
    )


def mapped(shards: PairedShards) -> Batch:
    """Gather from memory maps, as numpy does it."""
    files = shards.card.files
    arrays = {
        name: [np.load(shards.root / f, mmap_mode="r") for f in files[name]] for name in files
    }

    def batch(name: str, rows: NDArray[np.int64], seasons: NDArray[np.int64]) -> NDArray[np.uint8]:
        starts = np.cumsum([0, *map(len, arrays[name])])
        shard = np.searchsorted(starts, rows, side="right") - 1
        out = np.empty((len(rows), *arrays[name][0].shape[2:]), np.uint8)
        for number in np.unique(shard):
            at = np.flatnonzero(shard == number)
            out[at] = arrays[name][number][rows[at] - starts[number], seasons[at]]
        return out

    return batch


def one_pass(batch: Batch, shards: PairedShards, size: int) -> float:
    rng = np.random.default_rng(0)
    order = rng.permutation(len(shards))
    began = time.perf_counter()
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        for modality in shards.card.modalities:
            batch(modality.name, rows, rng.integers(0, modality.shape[0], len(rows)))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder) / "shards", args.samples)
        for file in shards.root.glob("*.npy"):
            file.read_bytes()
        ways: dict[str, Batch] = {"plain reads (ours)": shards.batch, "memory maps": mapped(shards)}
        grown, times = {}, {name: [] for name in ways}
        for name, batch in ways.items():
            batch(shards.card.modalities[0].name, np.array([0]), np.array([0]))
            before = resident_mb()
            one_pass(batch, shards, args.batch)
            grown[name] = resident_mb() - before
        for _ in range(args.repeats):
            for name, batch in ways.items():
                times[name].append(one_pass(batch, shards, args.batch))
    print("| way | s a pass | resident memory, MB |\n|---|---:|---:|")
    for name in ways:
        print(f"| {name} | {statistics.median(times[name]):.3f} | {grown[name]:+.0f} |")


if __name__ == "__main__":
    main()
