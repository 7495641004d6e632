"""How hard the synthetic scenes are: what a small net can see of each factor in each modality.

No self-supervised training is run, so that the scenes are fixed without looking at the methods that
are compared on them. Prints a Markdown table of test accuracies in %, of a net trained with labels
on augmented views (a factor that the modality does not show must stay at chance), and of a linear
probe on the same net at its random initialisation.

    OMP_NUM_THREADS=1 python tests/benchmarks/scene_difficulty.py [--train 2048] [--epochs 15]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from decur.config import DatasetSettings, ScenesSettings
from decur.datasets import load
from decur.imagery.augment import PRESETS, Augmentation
from decur.models.backbones import build_backbone
from decur.scenes.draw import SCENE_KINDS, write_scenes
from decur.scenes.render import LEVELS, Factors

CROP = 32
BATCH = 64
AUGMENTATION = {
    ("sar-optical", "sar"): "sar",
    ("sar-optical", "optical"): "optical",
    ("rgb-dem", "rgb"): "rgb",
    ("rgb-dem", "dem"): "dem",
    ("rgb-depth", "rgb"): "rgb-indoor",
    ("rgb-depth", "hha"): "hha",
}


def load_scenes(
    dataset: str, train: int, test: int, seed: int
) -> tuple[dict[str, NDArray[np.uint8]], pd.DataFrame]:
    """Images (n, C, P, P) by modality and the table of scenes, row by row."""
    scenes = ScenesSettings(train=train, test=test, seed=seed)
    settings = DatasetSettings(source="scenes", scenes=scenes, pixels=48, seasons=1)
    module = load(dataset)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_scenes(dataset, root, settings)
        table = pd.read_csv(root / "scenes.csv", dtype={"id": str}).set_index("id")
        samples = [module.read(record, settings) for record in module.scan(root, settings)]
    images = {name: np.stack([s.arrays[name][0] for s in samples]) for name in samples[0].arrays}
    return images, table.loc[[s.id for s in samples]]


def train_net(
    x: Tensor, y: Tensor, levels: tuple[int, ...], augment: Augmentation, epochs: int, seed: int
) -> tuple[nn.Module, nn.Module]:
    """Train a net on all factors at once; returns it and its heads."""
    generator = torch.Generator().manual_seed(seed)
    net = build_backbone("tiny", x.shape[1])
    heads = nn.Linear(net.feature_dim, sum(levels))
    optimizer = torch.optim.AdamW([*net.parameters(), *heads.parameters()], weight_decay=1e-3)
    steps = epochs * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            logits = heads(net(augment(x[rows], generator))).split(levels, dim=1)
            loss = sum(nn.functional.cross_entropy(z, y[rows, k]) for k, z in enumerate(logits))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()
            schedule.step()
    return net.eval(), heads


@torch.no_grad()
def features(net: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([net(part) for part in x.split(256)])


def accuracies(
    x: NDArray[np.uint8], table: pd.DataFrame, scenario: str, preset: str, epochs: int, seed: int
) -> tuple[list[float], list[float]]:
    """Test accuracy of each factor: of the trained net, and of a probe on the random one."""
    torch.manual_seed(seed)
    levels = LEVELS[scenario]
    train = (table["split"] == "train").to_numpy()
    images = torch.from_numpy(x)
    y = torch.from_numpy(table[list(Factors._fields)].to_numpy(copy=True))
    augment = replace(PRESETS[preset], size=CROP)
    whole = Augmentation(size=CROP, crop_scale=(1, 1), hflip=0, mean=augment.mean, std=augment.std)
    views = whole(images, torch.Generator())

    random = build_backbone("tiny", x.shape[1])
    with torch.no_grad():
        random(views[train][:512])  # in training mode: sets the running statistics
    z = StandardScaler().fit_transform(features(random.eval(), views).numpy())
    probe = [
        LogisticRegression(C=0.1, max_iter=500).fit(z[train], t[train]).score(z[~train], t[~train])
        for t in y.numpy().T
    ]
    net, heads = train_net(images[train], y[train], levels, augment, epochs, seed)
    with torch.no_grad():
        logits = heads(features(net, views[~train])).split(levels, dim=1)
    found = torch.stack([one.argmax(1) for one in logits], dim=1)
    supervised = (found == y[~train]).float().mean(0).tolist()
    return supervised, probe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", default=["ssl4eo-s12", "geonrw", "sun-rgbd"])
    parser.add_argument("--train", type=int, default=2048)
    parser.add_argument("--test", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| scenario | modality | factor | chance | random init, probe | supervised |")
    print("|---|---|---|---|---|---|")
    for dataset in args.datasets:
        scenario = SCENE_KINDS[dataset]
        images, table = load_scenes(dataset, args.train, args.test, args.seed)
        for modality, x in images.items():
            preset = AUGMENTATION[scenario, modality]
            result = accuracies(x, table, scenario, preset, args.epochs, args.seed)
            for k, factor in enumerate(Factors._fields):
                cells = [100 / LEVELS[scenario][k], 100 * result[1][k], 100 * result[0][k]]
                numbers = " | ".join(f"{cell:.0f}" for cell in cells)
                print(f"| {scenario} | {modality} | {factor} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
