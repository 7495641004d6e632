"""Memory, time, files and disk of each stage as a dataset grows, and the line to the paper's size.

Datasets are made up, of small images, packed like official archives (`tests.support.official`);
each stage is a process of its own, whose memory is the sum over its processes of what they do not
share (PSS), looked up ten times a second. Points are appended to a file, and `--fit` prints what
they, and those of `bench_scale_readers`, come to at the paper's size.

    python -m tests.benchmarks.bench_scale --datasets ssl4eo-s12 --files 1000 10000 100000
    python -m tests.benchmarks.bench_scale --files 1000000 --only-list
    python -m tests.benchmarks.bench_scale --fit
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from decur.config import DatasetSettings
from decur.scenes.stand_ins import CHECKSUMS
from tests.benchmarks.scale_fit import POINTS, Point, add_points, paper_table, read_points
from tests.support.official import FILES, write_official


class Used(NamedTuple):
    """What a command took: seconds, seconds of all cores together, and MB at its peak.

    On a machine that others use too, the seconds of cores compare better.
    """

    seconds: float
    cpu: float
    peak_mb: float


def measured(command: Sequence[str]) -> Used:
    """Run a command to its end, and look at its processes all the time.

    Raises:
        CalledProcessError: it failed.
    """
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak, cpu, ended = [0.0], dict[int, float](), threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            peak[0] = max(peak[0], _look(process.pid, cpu))

    looking = threading.Thread(target=look)
    looking.start()
    status = process.wait()
    ended.set()
    looking.join()
    if status:
        raise subprocess.CalledProcessError(status, command)
    return Used(time.monotonic() - start, sum(cpu.values()), peak[0])


def _look(pid: int, cpu: dict[int, float]) -> float:
    """MB that a process and its children hold; how long each has worked goes into `cpu`.

    None if a process began or ended meanwhile: what it shares with others was counted wrongly.
    """
    before, total = _running(pid), 0.0
    for process in before:
        try:
            total += process.memory_full_info().pss / 1e6
            cpu[process.pid] = sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return total if _running(pid) == before else 0.0


def _running(pid: int) -> list[psutil.Process]:
    """A process and its children, without those that have ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return [some for some in family if some.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def inodes(folder: Path) -> int:
    """Files and folders in a folder."""
    return sum(1 for _ in folder.rglob("*"))


def disk(folder: Path) -> int:
    """Bytes that a folder takes, links not followed."""
    return sum(p.lstat().st_blocks * 512 for p in folder.rglob("*") if not p.is_symlink())


def climb(name: str, files: int, pixels: int, place: Path, *, only_list: bool) -> list[Point]:
    """Measure each stage of a dataset of so many files, or only the listing of its archives."""
    packed = place / "packed"
    write_official(name, packed, files)
    settings = DatasetSettings(
        archives=str(packed), checksums=str(packed / CHECKSUMS), pixels=pixels
    ).model_dump_json()
    raw, out = place / "results" / "raw" / name, place / "results" / "shards" / name
    decur = [sys.executable, "-m", "decur"]
    options = ["--settings", settings, "--threads", "2"]
    listed = measured([*decur, "download", name, *options, "--out", str(raw)])
    found = json.loads((raw / "manifest.json").read_text())["files"]
    points = [Point("download", name, found, listed.peak_mb, listed.cpu)]
    if only_list:
        return points
    read = measured([*decur, "preprocess", name, *options, "--raw", str(raw), "--out", str(out)])
    checked = measured([*decur, "verify", str(out), "--threads", "2"])
    samples = sum(json.loads((out / "card.json").read_text())["counts"].values())
    archives, shards, results = disk(packed), disk(out), place / "results"
    print(
        f"{name}: {files} files, {samples} samples: {inodes(results)} files and folders, disk / "
        f"(archives + shards) {(archives + disk(results)) / (archives + shards):.3f}",
        flush=True,
    )
    return [
        *points,
        Point("preprocess", name, samples, read.peak_mb, read.cpu),
        Point("verify", name, samples, checked.peak_mb, checked.cpu),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=[*FILES], choices=[*FILES])
    parser.add_argument("--files", nargs="+", type=int, default=[1000, 10_000, 100_000])
    parser.add_argument("--pixels", type=int, default=16)
    parser.add_argument("--only-list", action="store_true", help="measure the download stage alone")
    parser.add_argument("--points", type=Path, default=POINTS, help="file of all points")
    parser.add_argument("--fit", action="store_true", help="measure nothing, print the table")
    args = parser.parse_args()
    if args.fit:
        print(paper_table(read_points(args.points)))
        return
    for name in args.datasets:
        for files in args.files:
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                points = climb(name, files, args.pixels, place, only_list=args.only_list)
                add_points(args.points, points)


if __name__ == "__main__":
    main()
