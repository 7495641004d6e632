"""How pretrained backbones are evaluated and explained (paper sections 5 and 7, appendix B)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from decur.config.strict import Chance, Count, Execution, Pixels, Positive, Size, Strict
from decur.errors import DecurError


class Recipe(Strict):
    """Optimisation of a transfer run; its length is given in epochs or in steps."""

    optimizer: Literal["sgd", "adamw"]
    lr: Positive
    lr_sweep: tuple[Positive, ...] = Field(
        (),
        description="learning rates to try in place of `lr`: each trains on nine tenths of the "
        "labelled samples, and the one that does best on the last tenth trains on all of them",
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    decay_1d: bool = Field(True, description="weight decay on biases and norms too")
    epochs: Count | None = None
    steps: Count | None = None
    schedule: Literal["constant", "steps", "poly"] = "constant"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (), description="fractions of the run at which 'steps' divides the learning rate by 10"
    )
    warm_up: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="fraction of the run in which the learning rate rises linearly from 0"
    )
    evaluate_every: Count | None = Field(
        None, description="epochs between two evaluations of a curve; null: only after the last"
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either 'epochs' or 'steps'")
        return self


class Sliding(Strict):
    """How whole images are segmented: window after window, at one or several sizes.

    CMX reports single-scale numbers with the defaults, and "MS & Flip" with
    `scales: [0.75, 1, 1.25], flip: true`.
    """

    window: Size = (480, 640)
    stride_share: Annotated[float, Field(gt=0, le=1)] = Field(
        2 / 3, description="stride as a share of the window"
    )
    scales: tuple[Positive, ...] = (1.0,)
    flip: bool = Field(False, description="see the mirrored image too")
    score: Literal["softmax", "exp"] = Field(
        "softmax", description="mean of probabilities, or sum of exponentials as CMX's code"
    )
    batch: Execution[Count] = Field(8, description="windows that the network sees at once")


class Views(Strict):
    """How labelled images are shown to a network."""

    crop: Count | Size = Field(224, description="side of a training crop, or height and width")
    crop_scale: tuple[Positive, Positive] = Field(
        (0.8, 1.0), description="range of a random crop's area, as a share of the image's"
    )
    scale_choices: tuple[Positive, ...] = Field(
        (),
        description="in place of `crop_scale`: factors by one of which an image is enlarged before "
        "the crop is cut from it; where the image is smaller, nothing is around it (segmentation)",
    )
    augment: bool = Field(
        True, description="random crops and flips; off, frozen features are extracted once"
    )
    vflip: Chance = Field(
        0.0,
        exclude_if=lambda chance: chance == 0,  # the settings of runs without it stay the same
        description="chance of a flip top to bottom, beside one half of left to right (the later "
        "released code for BigEarthNet-MM has 0.5)",
    )
    resample: Literal["bilinear", "nearest"] = Field(
        "bilinear",
        exclude_if=lambda kernel: kernel == "bilinear",  # as above
        description="how training crops of images are resized (nearest in the released code for "
        "GeoNRW); masks always are by nearest",
    )
    batch_size: Count = 256
    sliding: Sliding | None = Field(
        None, description="windows of evaluation (segmentation); null: the whole image at once"
    )


class Cmx(Views):
    """CMX on two Mix Transformers (paper §5.3, table 3), fine-tuned: protocol `cmx`."""

    task: Literal["segmentation"] = "segmentation"
    recipe: Recipe


class Transfer(Views):
    """Transfer to one dataset (paper appendix B)."""

    task: Literal["classification", "segmentation"]
    frozen_mode: Literal["eval", "official"] = Field(
        "eval",
        description="frozen backbones while the head trains: in evaluation mode, or in training "
        "mode as in the released code, whose batch norm takes and gathers the batches' statistics",
    )
    classifier_init: Literal["normal", "official"] = Field(
        "normal",
        exclude_if=lambda init: init == "normal",  # the settings of runs without it stay the same
        description="start of the linear classifier: weights of deviation 0.01 and no bias, or as "
        "in the first released code, so for frozen backbones alone, and torch's own in fine-tuning",
    )
    predictions: Literal["none", "all"] | Count = Field(
        "none", description="how many evaluation samples, evenly spaced, whose predictions are kept"
    )
    linear: Recipe
    fine_tune: Recipe
    cmx: Cmx | None = None

    @model_validator(mode="after")
    def _maps_for_segmentation(self) -> Self:
        for key in ("scale_choices", "sliding", "cmx"):
            if self.task != "segmentation" and getattr(self, key):
                raise ValueError(f"{key}: is for segmentation only")
        return self

    def protocol(self, name: str) -> tuple[Self | Cmx, Recipe]:
        """The views and the optimisation of `linear`, `fine-tune` or `cmx`.

        Nearest neighbours (`knn`) see the views of `linear`.

        Raises:
            DecurError: there is no recipe for `cmx`.
        """
        if name == "cmx":
            if self.cmx is None:
                raise DecurError("protocol 'cmx': no recipe; give one as `cmx` of the dataset")
            return self.cmx, self.cmx.recipe
        return self, self.fine_tune if name == "fine-tune" else self.linear


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


class Explain(Strict):
    """How each explainer looks at a pretrained run."""

    alignment: Alignment = Alignment()
    tsne: Tsne = Tsne()
    gradcam: GradCam = GradCam()
    saliency: Saliency = Saliency()
    spectral: Spectral = Spectral()
    share: Share = Share()
