"""A picture of the synthetic scenes: what both sensors see, and the labels."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from decur.datasets import geonrw, sun_rgbd
from decur.datasets.scene_files import corine_labels
from decur.datasets.scene_render import LEVELS, NAMES, Factors, render
from decur.preprocess.depth import nyu_intrinsics
from decur.preprocess.hha import depth_to_hha

COLUMNS = 5
TITLES = {
    "sar-optical": ("SAR", "optical", ""),
    "rgb-dem": ("RGB", "elevation", "labels"),
    "rgb-depth": ("RGB", "HHA", "labels"),
}


def examples_figure(path: Path, seed: int = 0) -> None:
    """Draw a few scenes of each scenario into an image file."""
    rows = sum(len(titles) for titles in TITLES.values())
    heights = [1, 1, 0.35, 1, 1, 1, 0.75, 0.75, 0.75]
    figure, axes = plt.subplots(
        rows,
        COLUMNS,
        figsize=(1.95 * COLUMNS, 15),
        height_ratios=heights,
        layout=ConstrainedLayoutEngine(h_pad=0.02, w_pad=0.03, hspace=0.008),
    )
    for block, (scenario, titles) in enumerate(TITLES.items()):
        for column in range(COLUMNS):
            levels = LEVELS[scenario]
            steps = (1, 1, 2)
            factors = Factors(*((column * s) % n for s, n in zip(steps, levels, strict=True)))
            rng = np.random.default_rng([seed, block, column])
            arrays = render(scenario, factors, rng, pixels=96)
            stack = axes[3 * block : 3 * block + 3, column]
            _draw(scenario, factors, arrays, stack)
            names = [
                f"{field}: {NAMES[scenario][k][level]}"
                for k, (field, level) in enumerate(factors._asdict().items())
            ]
            stack[0].set_title("\n".join(names), fontsize=8, loc="left", pad=4)
        for axis, title in zip(axes[3 * block : 3 * block + 3, 0], titles, strict=True):
            axis.set_ylabel(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw(scenario: str, factors: Factors, arrays: dict[str, NDArray[Any]], axes: Any) -> None:
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    if scenario == "sar-optical":
        vv, vh = arrays["sar"][0]
        composite = np.stack([(vv + 23) / 21, (vh + 30) / 21, (vv - vh + 2) / 19], axis=-1)
        axes[0].imshow(np.clip(composite, 0, 1))
        nir, red, green = arrays["optical"][0][[7, 3, 2]]
        axes[1].imshow(np.clip(np.stack([nir / 0.5, red / 0.35, green / 0.35], -1), 0, 1))
        _write_labels(axes[2], corine_labels(factors))
        return
    axes[0].imshow(arrays["rgb"])
    if scenario == "rgb-dem":
        axes[1].imshow(arrays["dem"], cmap="gray")
        axes[2].imshow(np.array(geonrw.DATASET.colours, np.uint8)[arrays["mask"]])
    else:
        depth = arrays["depth"]
        axes[1].imshow(depth_to_hha(depth, nyu_intrinsics(depth.shape[1])))
        colours = np.array(((0, 0, 0), *sun_rgbd.DATASET.colours), np.uint8)
        axes[2].imshow(colours[arrays["mask"]])


def _write_labels(axis: Axes, labels: list[str]) -> None:
    text = "\n".join(label if len(label) < 32 else f"{label[:30]}…" for label in labels)
    axis.text(0, 1, text, fontsize=7, va="top", transform=axis.transAxes)
