"""Memory and time of what reads shards and results, as they grow: see `bench_scale`.

The start of a pretraining, to the end of its first step, and the start of a transfer, here one
epoch of a linear probe on 64 labels and an evaluation of 64 samples: a tiny network on images of
8 pixels, so that what grows is what is kept of all samples. Besides, the tables of ever more
made-up results, and how long shards of full-size samples take to verify.

    python -m tests.benchmarks.bench_scale_readers --samples 1000 10000 100000 --seeds 1 6 60
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from decur import datasets
from decur.artifacts.paths import Cell, Paths
from decur.artifacts.timing import JobTimer
from decur.config import PretrainSettings, Recipe, Transfer, TransferSettings, load_config
from decur.config.datasets import DATASETS
from decur.config.experiments import chosen_experiments, load_experiments
from decur.pretrain.loop import train_steps
from decur.shards import PairedShards, Sample, ShardWriter
from decur.training.methods import build_model
from tests.benchmarks.bench_scale import disk, measured
from tests.benchmarks.bench_tables import EXPERIMENTS, HOME, fill
from tests.benchmarks.common import write_shards
from tests.benchmarks.scale_fit import BYTES, POINTS, Point, add_points
from tests.support.pretraining import settings as small_run

BATCH = 64
SIDE = 8
DECUR = [sys.executable, "-m", "decur"]


def write_samples(root: Path, name: str, count: int) -> None:
    """Shards of a dataset, all samples alike; the last `BATCH` are of the evaluation split."""
    facts, known = datasets.load(name).DATASET, DATASETS[name]
    rng = np.random.default_rng(0)
    shapes = {m.name: (len(m.bands), SIDE, SIDE) for m in facts.modalities}
    seasons = 4 if known.seasons else 1
    arrays = {
        name: rng.integers(0, 256, (seasons, *shape), np.uint8) for name, shape in shapes.items()
    }
    labels = np.arange(len(facts.classes), dtype=np.uint8) % 2
    card = {"dataset": name, "classes": facts.classes}
    with ShardWriter(root, facts.modalities, card) as writer:
        for number in range(count):
            held_out = number >= count - BATCH and known.evaluation in known.splits
            patch = f"S2A_MSIL2A_20170617T113321_{number}_72"
            writer.add(
                Sample(
                    id=patch,
                    split=known.evaluation if held_out else "train",
                    arrays=arrays,
                    labels=labels if len(labels) else None,
                    source=f"results/paper/raw/{name}/BigEarthNet-v1.0/{patch}",
                )
            )


def run_on(dataset: str) -> PretrainSettings:
    """A pretraining run of one epoch of the smallest network."""
    return small_run(dataset=dataset, crop=32, epochs=1, batch_size=BATCH, checkpoint_steps=10**6)


def take_first_step(settings: PretrainSettings, shards_root: Path, out: Path) -> None:
    """Start a pretraining as `decur pretrain` does, and end it after the first step."""
    shards = PairedShards(shards_root)
    model = build_model(settings, shards)
    next(train_steps(model, settings, shards, out, "benchmark", JobTimer()))


def pretraining(samples: int, place: Path) -> Point:
    """The start of a pretraining on so many samples."""
    name = "ssl4eo-s12"
    write_samples(place / name, name, samples)
    command = [sys.executable, "-m", "tests.benchmarks.bench_scale_readers", "--first-step"]
    places = [str(place / name), str(place / "run")]
    used = measured([*command, run_on(name).model_dump_json(), *places])
    return Point("pretrain", name, samples, used.peak_mb, used.cpu)


def transferring(samples: int, place: Path) -> Point:
    """A linear probe on `BATCH` labels of so many samples."""
    name = "bigearthnet"
    run, few, out = run_on(name), place / "few", place / "run"
    write_samples(few, name, 2 * BATCH)
    write_samples(place / "shards" / name, name, samples)
    started = ["--settings", run.model_dump_json(), "--shards", str(few), "--out", str(out)]
    measured([*DECUR, "pretrain", *started])
    head = Recipe(optimizer="sgd", lr=0.1, epochs=1)
    recipe = Transfer(task="classification", crop=32, augment=False, linear=head, fine_tune=head)
    settings = TransferSettings(
        run="sar-optical/decur/default/seed-1", pretrain=run, recipes={name: recipe}
    )
    cell = Cell(name, "sar+optical", "linear", 100 * BATCH / (samples - BATCH))
    read = ["--weights", str(out / "weights.safetensors"), "--shards", str(place / "shards")]
    options = ["--settings", settings.model_dump_json(), *read, "--out", str(place / "transfer")]
    used = measured([*DECUR, "transfer", str(cell), *options])
    return Point("transfer", name, samples, used.peak_mb, used.cpu)


def collating(seeds: int, place: Path) -> Point:
    """All tables and figures of the paper scale with so many seeds."""
    config = load_config(HOME / "config" / "paper.yaml")
    config = config.model_copy(update={"seeds": tuple(range(seeds))})
    paths = Paths(str(place), config.scale)
    count = fill(paths, config, chosen_experiments(load_experiments(EXPERIMENTS), config))
    used = measured([*DECUR, "tables", paths.root])
    return Point("tables", "", count, used.peak_mb, used.cpu)


def verifying(samples: int, place: Path) -> Point:
    """A check of so many samples of 2 and 13 bands of 264 pixels."""
    write_shards(place / "shards", samples)
    used = measured([*DECUR, "verify", str(place / "shards"), "--threads", "2"])
    return Point("verify", BYTES, disk(place / "shards") / 1e9, used.peak_mb, used.cpu)


def ladder(args: argparse.Namespace) -> Iterator[Point]:
    """All points, one by one."""
    steps = [
        *((pretraining, count) for count in args.samples),
        *((transferring, count) for count in args.samples),
        *((collating, count) for count in args.seeds),
        *((verifying, count) for count in args.full_size),
    ]
    for measure, count in steps:
        with tempfile.TemporaryDirectory() as folder:
            yield measure(count, Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", nargs="*", type=int, default=[1000, 10_000, 100_000])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 6, 60])
    parser.add_argument("--full-size", nargs="*", type=int, default=[250, 500, 1000])
    parser.add_argument("--points", type=Path, default=POINTS, help="file of all points")
    parser.add_argument("--first-step", nargs=3, metavar=("SETTINGS", "SHARDS", "OUT"))
    args = parser.parse_args()
    if args.first_step:
        settings, shards, out = args.first_step
        run = PretrainSettings.model_validate_json(settings)
        take_first_step(run, Path(shards), Path(out))
        return
    for point in ladder(args):
        add_points(args.points, [point])


if __name__ == "__main__":
    main()
