"""A linear head of 100 epochs on frozen backbones: features computed once, or images re-encoded.

The plain road re-encodes the same deterministic views for every step; both train the same head, so
that their scores (mAP or mIoU) agree. Training and one evaluation on synthetic scenes of 48 pixels,
with the small net of the demo and mini scales or a ResNet, one core.

    python tests/benchmarks/bench_linear.py
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from decur import datasets
from decur.config import DatasetSettings, Transfer
from decur.download.run import download
from decur.metrics.scores import HEADLINE
from decur.models.backbones import build_backbone
from decur.models.heads import FCN, LateFusion
from decur.preprocess.run import preprocess
from decur.shards import PairedShards
from decur.transfer.data import LabelledData
from decur.transfer.evaluate import evaluate
from decur.transfer.features import FrozenFeatures
from decur.transfer.train import train

TASKS = {
    "bigearthnet": ("classification", {"sar": "sar", "optical": "optical"}, LateFusion),
    "geonrw": ("segmentation", {"rgb": "rgb", "dem": "dem"}, FCN),
}


def scenes(folder: Path, name: str, count: int) -> PairedShards:
    """Shards of synthetic scenes, three quarters to train on."""
    how = {
        "source": "scenes",
        "pixels": 48,
        "scenes": {"train": 3 * count // 4, "test": count // 4},
    }
    settings = DatasetSettings.model_validate(how)
    download(name, settings, folder / "raw" / name, workers=2)
    preprocess(name, settings, folder / "raw" / name, folder / "shards" / name, workers=2)
    return PairedShards(folder / "shards" / name)


def head_score(
    data: LabelledData, name: str, arch: str, epochs: int, features: FrozenFeatures | None
) -> float:
    """Train one head on all labels and return its headline metric."""
    task, presets, head = TASKS[name]
    facts = datasets.load(name).DATASET
    torch.manual_seed(0)
    backbones = [build_backbone(arch, len(data.shards.bands(m))) for m in presets]
    model = head(backbones, len(facts.classes))
    recipe = data.settings.linear.model_copy(update={"epochs": epochs})  # type: ignore[union-attr]
    rows = data.shards.rows("train")
    train(model, data, rows, recipe, frozen="eval", seed=0, features=features)
    rows = data.shards.rows(facts.evaluation)
    return evaluate(model, data, rows, features).metrics[HEADLINE[task]]


def timed(call: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    score = call()
    return time.perf_counter() - start, score


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--archs", nargs="+", default=["tiny"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| scenes | backbone | re-encoded [s] | cached [s] | times | scores |")
    print("|---|---|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (task, presets, _) in TASKS.items():
            shards = scenes(Path(folder), name, args.samples)
            recipe = {"optimizer": "adamw", "lr": 0.003, "epochs": 1}
            how = {"task": task, "crop": 40, "batch_size": 64, "augment": False}
            settings = Transfer.model_validate({**how, "linear": recipe, "fine_tune": recipe})
            ignore = datasets.load(name).DATASET.ignore
            data = LabelledData(shards, presets, settings, ignore, torch.device("cpu"))
            for arch in args.archs:
                score = partial(head_score, data, name, arch, args.epochs)
                plain, cached = (timed(partial(score, f)) for f in (None, FrozenFeatures()))
                print(
                    f"| {name} | {arch} | {plain[0]:.1f} | {cached[0]:.1f} | "
                    f"{plain[0] / cached[0]:.1f} | {plain[1]:.2f}, {cached[1]:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
