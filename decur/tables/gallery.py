"""A gallery: evaluation samples as a model sees them, their labels, and what each method says.

The samples are evenly spaced in the evaluation set, so nobody has chosen them.
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
from decur.tables.pages import Page, Table, grid, page

if TYPE_CHECKING:  # matplotlib is slow to load, and only drawing needs it
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

Picture = NDArray[np.uint8]
"""An image to look at: (H, W, 3)."""

SAMPLES = 4
TILE = 1.15
"""Inches of an image's side."""

NATURAL = ("B4", "B3", "B2")
"""Sentinel-2's red, green and blue."""

NAMES = {
    "rgb": "RGB",
    "dem": "elevation",
    "nir": "near infrared",
    "sar": "SAR",
    "hha": "HHA (depth)",
}
"""Modalities as they are written above their images, where that is not their own name."""


@dataclass(frozen=True)
class Line:
    """A sample: its inputs as pictures, its labels (H, W), and a map (H, W) or None a method."""

    sample: str
    inputs: tuple[Picture, ...]
    truth: NDArray[np.uint8]
    predictions: tuple[NDArray[np.uint8] | None, ...]


@dataclass(frozen=True)
class Block:
    """The samples of a panel, share of labels and protocol; no lines where there are no shards."""

    panel: str
    labels: float
    protocol: str
    dataset: Dataset
    modalities: tuple[str, ...]
    methods: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """What was evaluated, as it is read."""
        return ", ".join(column_parts((self.panel, self.labels, self.protocol, ""))[:-1])


def collate(experiment: Experiment, config: Config, paths: Paths) -> list[Block]:
    """What there is to show so far, of each row's first run.

    Raises:
        DecurError: the shards or a prediction are damaged.
    """
    found: dict[tuple[str, float, str], dict[str, Entry]] = {}
    for entry in entries(experiment, config):
        if entry.runs:
            block = found.setdefault((entry.panel.label, entry.cell.labels, entry.protocol), {})
            block[entry.row.label] = entry
    return [_block(list(block.values()), config, paths) for block in found.values()]


def _block(columns: Sequence[Entry], config: Config, paths: Paths) -> Block:
    """The block of some methods, which differ in nothing else than their rows."""
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
    """A row's label, with its protocol where that is not the panel's."""
    own = entry.row.protocol
    return entry.row.label if own in (None, entry.protocol) else f"{entry.row.label} ({own})"


def _line(
    shards: PairedShards, row: int, modalities: Sequence[str], products: Sequence[Path]
) -> Line:
    rows = np.array([row])
    truth = shards.masks(rows)[0]
    sample, place = str(shards.index["id"].iloc[row]), shards.georeference(row)
    predictions = []
    for path in products:  # without its metrics a transfer is not done
        said = None
        if path.is_file():
            said = read_map(path.with_name(PREDICTIONS), sample, on_ground=place is not None)
        of_these_shards = said is not None and said.shape == truth.shape
        predictions.append(said if of_these_shards else None)
    inputs = [picture(shards.batch(m, rows)[0], shards.bands(m)) for m in modalities]
    return Line(sample, tuple(inputs), truth, tuple(predictions))


def picture(image: NDArray[np.uint8], bands: Sequence[str]) -> Picture:
    """An image (C, H, W) for the eye: natural colours if it has them, else the first band in grey.

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
    """A class map (H, W) in the dataset's colours; what no metric counts is striped."""
    shown = dataset.palette()[classes]
    uncounted = classes == dataset.ignore
    width = max(len(classes) // 24, 1)
    stripes = np.add.outer(*map(np.arange, classes.shape)) // width % 2
    shown[uncounted] = np.where(stripes, 160, 255)[uncounted, None]
    return shown


def accuracy(truth: NDArray[np.uint8], said: NDArray[np.uint8] | None, ignore: int | None) -> float:
    """Percent of the labelled pixels whose class is right; NaN where nothing has been said yet."""
    if said is None:
        return math.nan
    return 100 * float((said == truth)[truth != ignore].mean())


def accuracies(blocks: Sequence[Block]) -> pd.DataFrame:
    """A line a method and sample: panel, labels, protocol, sample, row, accuracy (NaN: not yet)."""
    lines = [
        {
            "panel": block.panel,
            "labels": block.labels,
            "protocol": block.protocol,
            "sample": line.sample,
            "row": method,
            "accuracy": accuracy(line.truth, said, block.dataset.ignore),
        }
        for block in blocks
        for line in block.lines
        for method, said in zip(block.methods, line.predictions, strict=True)
    ]
    columns = ["panel", "labels", "protocol", "sample", "row", "accuracy"]
    return pd.DataFrame(lines, columns=columns)


def gallery_page(blocks: Sequence[Block], experiment: Experiment, config: Config) -> Page:
    """The accuracies as a page that says how to read the figure."""
    body: list[Table | str] = []
    for block in blocks:
        lines = [["Sample", *block.methods]]
        for line in block.lines:
            found = [accuracy(line.truth, s, block.dataset.ignore) for s in line.predictions]
            lines.append([line.sample, *("–" if math.isnan(x) else f"{x:.1f}" for x in found)])
        body += [f"**{block.title}**", grid(lines)]
    body.append(
        "Percent of a sample's labelled pixels whose class is right; –: no results yet. The figure "
        "shows each sample's inputs, with their contrast stretched, its labels, and what each "
        "method says, of the first seed; striped is what no metric counts. The samples are evenly "
        "spaced in the evaluation set, nobody has chosen them."
    )
    return page(experiment, config, body)


def draw(blocks: Sequence[Block]) -> Images:
    """The gallery: a line of images a sample, below one another a block a panel."""
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
    for a, said in zip(tiles[-len(line.predictions) :], line.predictions, strict=True):
        if said is not None:
            a.set_xlabel(f"{accuracy(line.truth, said, ignore):.0f} %", fontsize=7, labelpad=2)


def _empty(a: "Axes") -> None:
    a.set(aspect="equal", facecolor="#f2f2f2")
    a.grid(visible=False)
    a.text(0.5, 0.5, "no results yet", transform=a.transAxes, ha="center", fontsize=6)


def _legend(block: Block) -> list["Artist"]:
    """A patch for each class that is shown somewhere, and one for what no metric counts."""
    from matplotlib.patches import Patch

    maps = [m for line in block.lines for m in (line.truth, *line.predictions) if m is not None]
    seen = set(np.unique(np.concatenate([m.ravel() for m in maps]))) if maps else set()
    edge: Mapping[str, Any] = {"edgecolor": "black", "linewidth": 0.4}
    patches: list[Artist] = [
        Patch(facecolor=block.dataset.palette()[i] / 255, label=name, **edge)
        for i, name in enumerate(block.dataset.classes)
        if i in seen and i != block.dataset.ignore
    ]
    if block.dataset.ignore in seen:
        patches.append(Patch(facecolor="white", hatch="////", label="not counted", **edge))
    return patches
