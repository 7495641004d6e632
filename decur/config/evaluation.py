"""How pretrained backbones are evaluated (paper section 5, appendix B)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from decur.config.protocols import PROTOCOLS
from decur.config.strict import Chance, Count, Execution, Positive, Size, Strict
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
    checkpoint_seconds: Execution[Annotated[float, Field(ge=0)]] = Field(
        600, description="seconds between two checkpoints of a training"
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
        """The views and the optimisation of a protocol; those of `linear` if it has none.

        Raises:
            DecurError: the recipe of the protocol is not given.
        """
        key = PROTOCOLS[name].recipe or "linear"
        recipe: Recipe | Cmx | None = getattr(self, key)
        if recipe is None:
            raise DecurError(f"protocol '{name}': no recipe; give one as `{key}` of the dataset")
        return (recipe, recipe.recipe) if isinstance(recipe, Cmx) else (self, recipe)
