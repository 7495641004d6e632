"""Settings of the evaluation of pretrained backbones (paper section 5, appendix B)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from decur.config.protocols import PROTOCOLS
from decur.config.strict import Chance, Count, Execution, Positive, Size, Strict
from decur.errors import DecurError


class Recipe(Strict):
    """Optimisation of a transfer evaluation; its length is given in epochs or in steps."""

    optimizer: Literal["sgd", "adamw"] = Field(description="optimiser")
    lr: Positive = Field(description="highest learning rate, reached after the warm-up")
    lr_sweep: tuple[Positive, ...] = Field(
        (),
        description="learning rates to try instead of `lr`: each is trained on nine tenths of the "
        "labelled samples; the best one on the last tenth is then trained on all of them",
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight decay of the optimiser"
    )
    decay_1d: bool = Field(True, description="apply weight decay to biases and norms too")
    epochs: Count | None = Field(None, description="number of epochs; null: `steps` is given")
    steps: Count | None = Field(None, description="number of steps; null: `epochs` is given")
    schedule: Literal["constant", "steps", "poly"] = Field(
        "constant",
        description="learning rate schedule: constant, divided by 10 at the `milestones`, or "
        "polynomial decay to 0 with power 0.9",
    )
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (), description="fractions of the run at which `steps` divides the learning rate by 10"
    )
    warm_up: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="fraction of the run in which the learning rate rises linearly from 0"
    )
    evaluate_every: Count | None = Field(
        None, description="epochs between two evaluations for a curve; null: only after the last"
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of 'epochs' and 'steps'")
        return self


class Sliding(Strict):
    """Segmentation of whole images with a sliding window, at one or several scales.

    CMX reports single-scale results with the defaults, and "MS & Flip" with
    `scales: [0.75, 1, 1.25], flip: true`.
    """

    window: Size = Field((480, 640), description="height and width of the window, in pixels")
    stride_share: Annotated[float, Field(gt=0, le=1)] = Field(
        2 / 3, description="stride as a fraction of the window"
    )
    scales: tuple[Positive, ...] = Field(
        (1.0,), description="factors by which the images are resized; the scores are combined"
    )
    flip: bool = Field(False, description="evaluate the mirrored image too")
    score: Literal["softmax", "exp"] = Field(
        "softmax",
        description="combination of scores: mean of probabilities, or sum of exponentials as in "
        "the code of CMX",
    )
    batch: Execution[Count] = Field(8, description="number of windows per forward pass")


class Views(Strict):
    """Augmentation, batches and windows of labelled images."""

    crop: Count | Size = Field(
        224, description="size of a training crop in pixels: its side, or [height, width]"
    )
    crop_scale: tuple[Positive, Positive] = Field(
        (0.8, 1.0), description="range of the area of a random crop, as a fraction of the image"
    )
    scale_choices: tuple[Positive, ...] = Field(
        (),
        description="factors that replace `crop_scale` (segmentation): the image is enlarged by a "
        "randomly chosen factor before the crop is cut; smaller images are padded without labels",
    )
    augment: bool = Field(
        True, description="use random crops and flips; false: frozen features are extracted once"
    )
    vflip: Chance = Field(
        0.0,
        exclude_if=lambda chance: chance == 0,  # keep the settings of other runs unchanged
        description="probability of a top-bottom flip, in addition to left-right flips with "
        "probability 0.5 (0.5 in the later released code for BigEarthNet-MM)",
    )
    resample: Literal["bilinear", "nearest"] = Field(
        "bilinear",
        exclude_if=lambda kernel: kernel == "bilinear",  # keep the settings of other runs unchanged
        description="interpolation of training crops of images (nearest in the released code for "
        "GeoNRW); masks always use nearest",
    )
    batch_size: Count = Field(256, description="samples per training step")
    sliding: Sliding | None = Field(
        None,
        description="sliding windows of the evaluation (segmentation); null: the whole image at "
        "once",
    )


class Cmx(Views):
    """Fine-tuning of CMX on two Mix Transformers (paper §5.3, table 3): protocol `cmx`."""

    task: Literal["segmentation"] = Field("segmentation", description="always segmentation")
    recipe: Recipe = Field(description="recipe of the fine-tuning")


class Transfer(Views):
    """Transfer to one dataset (paper appendix B)."""

    task: Literal["classification", "segmentation"] = Field(
        description="task, which must match the labels of the dataset"
    )
    frozen_mode: Literal["eval", "official"] = Field(
        "eval",
        description="mode of frozen backbones while the head trains: evaluation mode, or training "
        "mode as in the released code, where batch norm uses and accumulates batch statistics",
    )
    classifier_init: Literal["normal", "official"] = Field(
        "normal",
        exclude_if=lambda init: init == "normal",  # keep the settings of other runs unchanged
        description="initial linear classifier: weights with standard deviation 0.01 and no bias; "
        "or as in the first released code: the same for frozen backbones, and PyTorch's default "
        "in fine-tuning",
    )
    predictions: Literal["none", "all"] | Count = Field(
        "none",
        description="number of evaluation samples, evenly spaced, whose predictions are kept",
    )
    checkpoint_seconds: Execution[Annotated[float, Field(ge=0)]] = Field(
        600, description="seconds between two checkpoints of a training"
    )
    linear: Recipe = Field(description="recipe of protocols that train a head on frozen backbones")
    fine_tune: Recipe = Field(description="recipe of protocols that fine-tune the backbones")
    cmx: Cmx | None = Field(
        None, description="views and recipe of the protocol `cmx` (segmentation); null: not used"
    )

    @model_validator(mode="after")
    def _maps_for_segmentation(self) -> Self:
        for key in ("scale_choices", "sliding", "cmx"):
            if self.task != "segmentation" and getattr(self, key):
                raise ValueError(f"{key}: is for segmentation only; remove it")
        return self

    def protocol(self, name: str) -> tuple[Self | Cmx, Recipe]:
        """Return the views and the recipe of a protocol; those of `linear` if it has no recipe.

        Raises:
            DecurError: the settings do not contain the recipe of the protocol.
        """
        key = PROTOCOLS[name].recipe or "linear"
        recipe: Recipe | Cmx | None = getattr(self, key)
        if recipe is None:
            raise DecurError(f"protocol '{name}': no recipe; add `{key}` to the dataset's transfer")
        return (recipe, recipe.recipe) if isinstance(recipe, Cmx) else (self, recipe)
