"""The registry of explainers, each with its settings (paper sections 6 and 7)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, create_model

from decur.config.strict import Count, Pixels, Positive, Strict

TSNE_MOVE = 4e-6
"""Core seconds per point and iteration of t-SNE, from 3.6 s for 512 points and 2,000 iterations."""


class Alignment(Strict):
    """Cross-modal alignment of embedding dimensions (paper §7, figures 4a and 8)."""

    batch_size: Count = Field(default=64, description="samples per batch")
    batches: Count = Field(default=8, description="maximum number of batches")


class Tsne(Strict):
    """t-SNE of embedding dimensions (paper §7, figures 1 and 9)."""

    batch_size: Annotated[int, Field(ge=2)] = Field(default=128, description="samples per batch")
    batches: Count = Field(default=4, description="maximum number of batches, each with its map")
    perplexity: Positive = Field(
        default=40, description="perplexity of t-SNE; reduced to a third of the points if necessary"
    )
    iterations: Annotated[int, Field(ge=250)] = Field(
        default=2000, description="number of iterations of t-SNE"
    )


class GradCam(Strict):
    """Grad-CAM maps of common and unique dimensions (paper §7, figures 4b and 10)."""

    samples: Count | Literal["all"] = Field(
        default=4,
        description="number of samples, evenly spaced, from splits not used in pretraining, if any",
    )
    pixels: Pixels | None = Field(
        default=None, description="side of the views in pixels; null: `crop` of pretraining"
    )


class Saliency(GradCam):
    """Overlap of the Grad-CAM maps of both modalities (paper §7, figure 5)."""

    samples: Count | Literal["all"] = Field(
        default="all",
        description="number of samples, evenly spaced, from splits not used in pretraining, if any",
    )


class Spectral(Strict):
    """Integrated gradients per band (paper §7, figure 5)."""

    samples: Count | Literal["all"] = Field(
        default=200,
        description="number of samples, evenly spaced, from splits not used in pretraining, if any",
    )
    steps: Annotated[int, Field(ge=2)] = Field(
        default=200, description="number of points of the path integral (50 in the released code)"
    )


class Share(Strict):
    """An estimate of the share of common dimensions (paper §6, figure 3a)."""

    samples: Count = Field(default=2048, description="maximum number of samples")


class RunSize(NamedTuple):
    """The size of an explained run.

    `samples` is the number of samples (0: not known yet), `dims` is the number of embedding
    dimensions, `parts` is the number of their groups (common, unique).
    """

    samples: int
    dims: int
    parts: int


class Work(NamedTuple):
    """The work of explaining one run.

    `forward` is the number of images per modality that only pass forward, `backward` the number of
    those that pass forward and backward. `pixels` is their side, or None for the crop of
    pretraining. `seconds` is the core time besides the networks.
    """

    forward: float = 0
    backward: float = 0
    pixels: int | None = None
    seconds: float = 0


def _alignment_work(recipe: Alignment, run: RunSize) -> Work:
    return Work(forward=recipe.batches * recipe.batch_size)


def _tsne_work(recipe: Tsne, run: RunSize) -> Work:
    moves = 2 * run.dims * recipe.iterations * recipe.batches
    return Work(forward=recipe.batches * recipe.batch_size, seconds=moves * TSNE_MOVE)


def _maps_work(recipe: GradCam, run: RunSize) -> Work | None:
    samples = _samples(recipe.samples, run)
    return None if samples is None else Work(forward=samples, pixels=recipe.pixels)


def _spectral_work(recipe: Spectral, run: RunSize) -> Work | None:
    samples = _samples(recipe.samples, run)
    return None if samples is None else Work(backward=samples * recipe.steps * run.parts)


def _share_work(recipe: Share, run: RunSize) -> Work:
    return Work(forward=2 * min(recipe.samples, run.samples))


def _samples(asked: int | Literal["all"], run: RunSize) -> int | None:
    """Return the number of explained samples; None if it is all samples and not known yet."""
    return (run.samples or None) if asked == "all" else asked


class PartScore(NamedTuple):
    """A score of each part of an embedding: its title, and its column in the CSV.

    `column` contains the score of the part that the column `part` names. If `column` is None, the
    CSV has one column per part.
    """

    title: str
    column: str | None = None


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """The properties of an explainer, available without importing its module.

    Attributes:
        recipe: its settings, all with defaults.
        module: the module with `explain(subject, recipe)` and `PACKAGES`, see `decur.explain.run`.
        work: computes the work of a run; returns None if it depends on data that do not exist yet.
        page: the module with `result(experiment, config, paths)`, which makes its page and figure;
            None: the page is its CSV as a table, without a figure.
        reads: the inputs of the page besides the explainer's own files: the metrics of the cells of
            the experiment, or the shards of the explained datasets.
        score: the score by which claims compare the parts of an embedding; None if they cannot.
        on_grid: whether it is shown beside a grid of transfer cells, and explains their runs.
    """

    recipe: type[Strict]
    module: str
    work: Callable[[Any, RunSize], Work | None]
    page: str | None = None
    reads: Literal["metrics", "shards"] | None = None
    score: PartScore | None = None
    on_grid: bool = False


EXPLAINERS = {
    "alignment": Explainer(
        recipe=Alignment,
        module="decur.explain.alignment",
        work=_alignment_work,
        page="decur.tables.explained.alignment",
        score=PartScore("alignment loss", "loss"),
    ),
    "tsne": Explainer(
        recipe=Tsne,
        module="decur.explain.tsne",
        work=_tsne_work,
        page="decur.tables.explained.tsne",
    ),
    "gradcam": Explainer(
        recipe=GradCam,
        module="decur.explain.gradcam",
        work=_maps_work,
        page="decur.tables.explained.gradcam",
        reads="shards",
    ),
    "saliency": Explainer(
        recipe=Saliency,
        module="decur.explain.saliency",
        work=_maps_work,
        page="decur.tables.explained.saliency",
        score=PartScore("overlap of saliency"),
    ),
    "spectral": Explainer(
        recipe=Spectral,
        module="decur.explain.spectral",
        work=_spectral_work,
        page="decur.tables.explained.spectral",
    ),
    "share": Explainer(
        recipe=Share,
        module="decur.explain.share",
        work=_share_work,
        page="decur.tables.explained.share",
        reads="metrics",
        on_grid=True,
    ),
}

_fields: Any = {
    name: (known.recipe, Field(known.recipe(), description=f"settings of the explainer `{name}`"))
    for name, known in EXPLAINERS.items()
}
Explain = create_model(
    "Explain", __base__=Strict, __doc__="Settings of the explainers of pretrained runs.", **_fields
)
"""The settings of all explainers, by name."""
