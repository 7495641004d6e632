"""Make a gallery of evaluation samples: inputs, labels, and each method's predictions.

The samples are evenly spaced in the evaluation set, not hand-picked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decur import datasets
from decur.artifacts.paths import Paths
from decur.artifacts.predictions import PREDICTIONS, read_map
from decur.config import Config
from decur.config.experiments import Entry, Experiment, column_parts, entries
from decur.datasets import Dataset
from decur.shards import PairedShards
from decur.shards.select import evenly_spaced, kept_rows
from decur.tables.figures import Images, stacked
from decur.tables.pages import Heading, Page, PagePart, experiment_page, grid

if TYPE_CHECKING:  # matplotlib is slow to load, and only drawing needs it
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

Picture = NDArray[np.uint8]
"""An image for display: (H, W, 3)."""

SAMPLES = 4
TILE = 1.15
"""The side of an image in inches."""

NATURAL = ("B4", "B3", "B2")
"""The red, green and blue bands of Sentinel-2."""

NAMES = {
    "rgb": "RGB",
    "dem": "elevation",
    "nir": "near infrared",
    "sar": "SAR",
    "hha": "HHA (depth)",
}
"""Display names of modalities, where they differ from the modality's name."""


@dataclass(frozen=True)
class Line:
    """A sample: its inputs as pictures, its labels (H, W), and a map (H, W) or None per method."""

    sample: str
    inputs: tuple[Picture, ...]
    truth: NDArray[np.uint8]
    predictions: tuple[NDArray[np.uint8] | None, ...]


@dataclass(frozen=True)
class Block:
    """The samples of a panel, share of labels and protocol; no lines if the shards are missing."""

    panel: str
    labels: float
    protocol: str
    dataset: Dataset
    modalities: tuple[str, ...]
    methods: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """Panel, labels and protocol, as a title."""
        return ", ".join(column_parts((self.panel, self.labels, self.protocol, ""))[:-1])


def collate(experiment: Experiment, config: Config, paths: Paths) -> list[Block]:
    """Collect the available samples and predictions, from each row's first run.

    Raises:
        DecurError: the shards or a prediction are damaged.
    """
    blocks: dict[tuple[str, float, str], dict[str, Entry]] = {}
    for entry in entries(experiment, config):
        if entry.runs:
            block = blocks.setdefault((entry.panel.label, entry.cell.labels, entry.protocol), {})
            block[entry.row.label] = entry
    return [_block(list(block.values()), config, paths) for block in blocks.values()]


def _block(columns: Sequence[Entry], config: Config, paths: Paths) -> Block:
    """Make the block of entries that differ only in their rows."""
    first = columns[0]
    name = first.cell.dataset
    dataset = datasets.load(name, config.datasets[name]).DATASET
    modalities = tuple(first.panel.modalities.split("+"))
    lines = []
    if Path(paths.card(name)).is_file():
        shards = PairedShards(paths.shards(name))
        kept = kept_rows(shards, dataset.evaluation, config.transfer[name].predictions)
        products = [Path(paths.metrics(str(e.runs[0]), str(e.cell))) for e in columns]
        for row in evenly_spaced(kept, SAMPLES).tolist():
            lines.append(_line(shards, row, modalities, products))
    return Block(
        first.panel.label,
        first.cell.labels,
        first.protocol,
        dataset,
        modalities,
        tuple(_method(entry) for entry in columns),
        tuple(lines),
    )


def _method(entry: Entry) -> str:
    """Return a row's label, with its protocol if it differs from the panel's."""
    own = entry.cell.protocol
    return entry.row.label if own == entry.protocol else f"{entry.row.label} ({own})"


def _line(
    shards: PairedShards, row: int, modalities: Sequence[str], products: Sequence[Path]
) -> Line:
    rows = np.array([row])
    truth = shards.masks(rows)[0]
    sample, place = str(shards.index["id"].iloc[row]), shards.georeference(row)
    predictions = []
    for path in products:  # a transfer without metrics is not finished
        saved = None
        if path.is_file():
            saved = read_map(path.with_name(PREDICTIONS), sample, on_ground=place is not None)
        of_these_shards = saved is not None and saved.shape == truth.shape
        predictions.append(saved if of_these_shards else None)
    inputs = [picture(shards.batch(m, rows)[0], shards.bands(m)) for m in modalities]
    return Line(sample, tuple(inputs), truth, tuple(predictions))


def picture(image: NDArray[np.uint8], bands: Sequence[str]) -> Picture:
    """Convert an image (C, H, W) to natural colours, or else its first band to grey.

    Three bands are shown as red, green and blue. The contrast is stretched to 1-99 % of all values.
    """
    if set(NATURAL) <= set(bands):
        shown = image[[bands.index(band) for band in NATURAL]]
    else:
        shown = image if len(image) == 3 else image[[0, 0, 0]]
    low, high = np.percentile(shown, [1, 99])
    stretched = 255 * (shown - low) / max(high - low, 1)
    levels: Picture = np.clip(stretched, 0, 255).astype(np.uint8)
    return levels.transpose(1, 2, 0)


def coloured(classes: NDArray[np.uint8], dataset: Dataset) -> Picture:
    """Colour a class map (H, W) with its dataset's palette; ignored pixels are striped."""
    shown = dataset.palette()[classes]
    uncounted = classes == dataset.ignore
    width = max(len(classes) // 24, 1)
    stripes = np.add.outer(*map(np.arange, classes.shape)) // width % 2
    shown[uncounted] = np.where(stripes, 160, 255)[uncounted, None]
    return shown


def accuracy(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8] | None, ignore: int | None
) -> float:
    """Compute the percentage of labelled pixels with the right class; NaN without a prediction."""
    if predicted is None:
        return math.nan
    return 100 * float((predicted == truth)[truth != ignore].mean())


def accuracies(blocks: Sequence[Block]) -> pd.DataFrame:
    """List panel, labels, protocol, sample, row and accuracy, with one line per map.

    The accuracy is NaN while the prediction is missing.
    """
    lines = [
        {
            "panel": block.panel,
            "labels": block.labels,
            "protocol": block.protocol,
            "sample": line.sample,
            "row": method,
            "accuracy": accuracy(line.truth, predicted, block.dataset.ignore),
        }
        for block in blocks
        for line in block.lines
        for method, predicted in zip(block.methods, line.predictions, strict=True)
    ]
    columns = ["panel", "labels", "protocol", "sample", "row", "accuracy"]
    return pd.DataFrame(lines, columns=columns)


def gallery_page(blocks: Sequence[Block], experiment: Experiment, config: Config) -> Page:
    """Turn the accuracies into a page that explains the figure."""
    body: list[PagePart] = []
    for block in blocks:
        lines = [["Sample", *block.methods]]
        for line in block.lines:
            right = [accuracy(line.truth, p, block.dataset.ignore) for p in line.predictions]
            lines.append([line.sample, *("–" if math.isnan(x) else f"{x:.1f}" for x in right)])
        body += [Heading(block.title), grid(lines)]
    body.append(
        "Percent of a sample's labelled pixels with the right class; –: no results yet. The figure "
        "shows each sample's inputs with stretched contrast, its labels, and each method's "
        "predictions with the first seed. No metric counts striped pixels. The samples are evenly "
        "spaced in the evaluation set, not hand-picked."
    )
    return experiment_page(experiment, config, body)


def draw(blocks: Sequence[Block]) -> Images:
    """Draw a block per panel, with a line of images per sample."""
    shapes = [(len(b.lines) or 1, len(b.modalities) + 1 + len(b.methods)) for b in blocks]
    sizes = [(TILE * columns + 0.3, lines * (TILE + 0.15) + 0.8) for lines, columns in shapes]
    return stacked(sizes, lambda number, part: _draw_block(part, blocks[number], shapes[number]))


def _draw_block(part: "SubFigure", block: Block, shape: tuple[int, int]) -> None:
    part.suptitle(block.title, fontsize=9)
    axes = part.subplots(*shape, squeeze=False)
    for a in axes.flat:
        a.set(xticks=[], yticks=[])
        a.spines[:].set_visible(False)
    inputs = [NAMES.get(name, name) for name in block.modalities]
    for a, title in zip(axes[0], [*inputs, "labels", *block.methods], strict=True):
        a.set_title(title.replace(" (", "\n("))
    for line, tiles in zip(block.lines, axes, strict=False):
        _draw_line(tiles, line, block)
    if not block.lines:
        for a in axes[0]:
            _empty(a)
    if named := _legend(block):
        part.legend(handles=named, loc="outside lower center", ncols=min(len(named), 4), fontsize=7)


def _draw_line(tiles: Sequence["Axes"], line: Line, block: Block) -> None:
    ignore, classes = block.dataset.ignore, [line.truth, *line.predictions]
    pictures = [*line.inputs, *(None if c is None else coloured(c, block.dataset) for c in classes)]
    for a, shown in zip(tiles, pictures, strict=True):
        if shown is None:
            _empty(a)
        else:
            a.imshow(shown, interpolation="nearest")
    tiles[0].set_ylabel(line.sample, fontsize=6)
    for a, predicted in zip(tiles[-len(line.predictions) :], line.predictions, strict=True):
        if predicted is not None:
            right = accuracy(line.truth, predicted, ignore)
            a.set_xlabel(f"{right:.0f} %", fontsize=7, labelpad=2)


def _empty(a: "Axes") -> None:
    a.set(aspect="equal", facecolor="#f2f2f2")
    a.grid(visible=False)
    a.text(0.5, 0.5, "no results yet", transform=a.transAxes, ha="center", fontsize=6)


def _legend(block: Block) -> list["Artist"]:
    """Make a legend entry for each class in the maps, and one for pixels that do not count."""
    from matplotlib.patches import Patch

    maps = [m for line in block.lines for m in (line.truth, *line.predictions) if m is not None]
    shown = set(np.unique(np.concatenate([m.ravel() for m in maps]))) if maps else set()
    edge: Mapping[str, Any] = {"edgecolor": "black", "linewidth": 0.4}
    patches: list[Artist] = [
        Patch(facecolor=block.dataset.palette()[i] / 255, label=name, **edge)
        for i, name in enumerate(block.dataset.classes)
        if i in shown and i != block.dataset.ignore
    ]
    if block.dataset.ignore in shown:
        patches.append(Patch(facecolor="white", hatch="////", label="not counted", **edge))
    return patches
