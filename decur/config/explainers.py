"""The registry of explainers, each with its settings (paper sections 6 and 7)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, create_model

from decur.config.strict import Count, Pixels, Positive, Strict

TSNE_MOVE = 4e-6
"""Seconds of one core to move a point of t-SNE once: 512 points 2,000 times in 3.6 s."""


class Alignment(Strict):
    """Cross-modal alignment of embedding dimensions (paper §7, figures 4a and 8)."""

    batch_size: Count = 64
    batches: Count = 8


class Tsne(Strict):
    """t-SNE of embedding dimensions (paper §7, figures 1 and 9)."""

    batch_size: Annotated[int, Field(ge=2)] = 128
    batches: Count = 4
    perplexity: Positive = Field(
        default=40, description="at most a third of the points, if they are few"
    )
    iterations: Annotated[int, Field(ge=250)] = 2000


class GradCam(Strict):
    """Grad-CAM maps of common and unique dimensions (paper §7, figures 4b and 10)."""

    samples: Count | Literal["all"] = Field(
        default=4,
        description="samples that the run was not trained on, if any: so many, evenly spaced",
    )
    pixels: Pixels | None = Field(
        default=None, description="side of the views; null: the crop of pretraining"
    )


class Saliency(GradCam):
    """How far the maps of both modalities coincide (paper §7, figure 5)."""

    samples: Count | Literal["all"] = "all"


class Spectral(Strict):
    """Integrated gradients by band (paper §7, figure 5)."""

    samples: Count | Literal["all"] = 200
    steps: Annotated[int, Field(ge=2)] = Field(
        default=200, description="points of the path integral; 50 in the released code"
    )


class Share(Strict):
    """An estimate of the share of common dimensions (paper §6, figure 3a)."""

    samples: Count = 2048


class RunSize(NamedTuple):
    """The size of the run that is explained.

    `samples` is how many there are (0: not known yet), `dims` and `parts` are the dimensions and
    the parts of the embedding.
    """

    samples: int
    dims: int
    parts: int


class Work(NamedTuple):
    """What explaining one run takes.

    `forward` and `backward` are images per modality that pass forward alone, and that pass forward
    and backward; `pixels` is their side where it is not the crop of pretraining; `seconds` is the
    time of one core beside the networks.
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
    """How many samples are explained; None where all are, and nobody knows how many."""
    return (run.samples or None) if asked == "all" else asked


class PartScore(NamedTuple):
    """A score of each part of an embedding: its name for readers, and where the CSV has it.

    `column` holds the scores of lines with a column `part`; None: there is a column per part.
    """

    title: str
    column: str | None = None


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """What the package knows of an explainer without importing it.

    Attributes:
        recipe: its settings, all with defaults.
        module: the module with `explain(subject, recipe)` and `PACKAGES`, see `decur.explain.run`.
        work: what explaining a run takes; None where that depends on data that are not there yet.
        page: the module with `result(experiment, config, paths)`, which makes its page and figure;
            None for its CSV as a table, without a figure.
        reads: what the page is made from beside the explainer's own files: the metrics of the
            experiment's transfers, or the shards of the explained datasets.
        score: what claims compare the parts of an embedding by; None where they cannot.
        on_grid: whether it stands beside a grid of transfers, whose runs it explains.
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

_fields: Any = {name: (known.recipe, known.recipe()) for name, known in EXPLAINERS.items()}
Explain = create_model(
    "Explain", __base__=Strict, __doc__="How each explainer looks at a pretrained run.", **_fields
)
"""The settings of all explainers, by name."""
