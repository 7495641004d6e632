"""Draw a montage of Grad-CAM maps on their images (figures 4b and 10)."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.paths import Paths
from decur.config import Config, pretrain_settings
from decur.config.experiments import Experiment
from decur.shards import PairedShards
from decur.tables.explained.products import Explained, explained, joined
from decur.tables.figures import Images, stacked
from decur.tables.gallery import NAMES, Picture, picture
from decur.tables.pages import Heading, PagePart, Result, experiment_page, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

COLUMNS = ["sample", "modality", "part", "y", "x", "value"]
TILE = 1.05
"""The side of an image in inches."""

Pictures = dict[tuple[str, str], Picture]
"""Pictures by sample and modality."""


def result(experiment: Experiment, config: Config, paths: Paths) -> Result:
    """Collate the maps of all runs.

    Raises:
        DecurError: a file is damaged, or the shards are.
    """
    results = explained(experiment, config, paths, ["y", "x", "value"])
    pictures = [_pictures(one, config, paths) for one in results]
    page = experiment_page(experiment, config, _body(results))
    return Result(joined(results, COLUMNS), page, partial(draw, results, pictures), "%.4g")


def _pictures(one: Explained, config: Config, paths: Paths) -> Pictures:
    """Read the images of a run's samples; empty if their shards are missing."""
    dataset = pretrain_settings(config, one.run).dataset
    if not Path(paths.card(dataset)).is_file():
        return {}
    shards = PairedShards(paths.shards(dataset))
    rows = {sample: row for row, sample in enumerate(shards.index["id"].astype(str))}
    wanted = one.frame[["sample", "modality"]].drop_duplicates().itertuples(index=False)
    return {
        (sample, modality): picture(
            shards.batch(modality, np.array([rows[sample]]))[0], shards.bands(modality)
        )
        for sample, modality in wanted
        if sample in rows
    }


def heat(one: Explained, sample: str, modality: str, part: str) -> NDArray[np.float64]:
    """Extract one Grad-CAM map `(h, w)`."""
    lines = one.frame
    chosen = (lines["sample"] == sample) & (lines["modality"] == modality)
    cells = lines[chosen & (lines["part"] == part)]
    return cells.pivot(index="y", columns="x", values="value").to_numpy(dtype=np.float64)


def _body(results: list[Explained]) -> list[PagePart]:
    body: list[PagePart] = []
    for one in results:
        places = _places(one)
        head = ["Sample", *(f"{NAMES.get(m, m)}, {part}" for m, part in places)]
        lines = [head]
        for sample in dict.fromkeys(one.frame["sample"]):
            tops = [heat(one, sample, *place).max() for place in places]
            lines.append([str(sample), *(f"{top:.2g}" if top else "empty" for top in tops)])
        body += [Heading(one.title), grid(lines)]
    body.append(
        "The largest value of each map. In the figure, each map ranges from 0 (dark) to its "
        "largest value (light). A map is empty if no part of the image raises the mean of these "
        "dimensions. The samples are evenly spaced in the split, not hand-picked; first seed."
    )
    return body if results else ["No results yet."]


def _places(one: Explained) -> list[tuple[str, str]]:
    """List modality and part of each map of a sample, in order."""
    return [(m, part) for m in dict.fromkeys(one.frame["modality"]) for part in one.parts]


def draw(results: list[Explained], pictures: list[Pictures]) -> Images:
    """Draw a block per run, with a line per sample: each modality's image, then its maps."""
    shapes = []
    for one in results:
        images = one.frame["modality"].nunique()
        shapes.append((one.frame["sample"].nunique(), images + len(_places(one))))
    sizes = [(TILE * columns + 0.3, lines * (TILE + 0.05) + 0.5) for lines, columns in shapes]

    def block(number: int, part: "SubFigure") -> None:
        one = results[number]
        part.suptitle(one.title, fontsize=9)
        tiles = part.subplots(*shapes[number], squeeze=False)
        for line, sample in zip(tiles, dict.fromkeys(one.frame["sample"]), strict=True):
            _line(line, one, sample, pictures[number])
            line[0].set_ylabel(sample, fontsize=5)
        titles = []
        for modality in dict.fromkeys(one.frame["modality"]):
            titles += [NAMES.get(modality, modality), *one.parts]
        for a, title in zip(tiles[0], titles, strict=True):
            a.set_title(title)

    return stacked(sizes, block)


def _line(tiles: "list[Axes]", one: Explained, sample: str, pictures: Pictures) -> None:
    places = iter(tiles)
    for modality in dict.fromkeys(one.frame["modality"]):
        shown = pictures.get((sample, modality))
        _tile(next(places), shown, None)
        for part in one.parts:
            _tile(next(places), shown, heat(one, sample, modality, part))


def _tile(a: "Axes", image: Picture | None, saliency: NDArray[np.float64] | None) -> None:
    """Draw an image in colour, or in grey below a map, so that only lightness shows saliency."""
    a.set(xticks=[], yticks=[], aspect="equal")
    a.spines[:].set_visible(False)
    a.grid(visible=False)
    extent = (0, 1, 0, 1)
    if saliency is None:
        if image is not None:
            a.imshow(image, extent=extent, interpolation="nearest")
        return
    if image is not None:
        grey = image.mean(axis=2)
        a.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    a.imshow(
        saliency / (saliency.max() or 1),
        cmap="inferno",
        vmin=0,
        vmax=1,
        alpha=0.65,
        extent=extent,
        interpolation="bilinear",
    )
    if not saliency.any():
        a.text(0.5, 0.5, "empty", color="white", ha="center", va="center", fontsize=7)
