"""How a pair of modalities is pretrained (paper section 4 and appendix B)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from decur.config.architectures import ArchName
from decur.config.augmentations import PresetName
from decur.config.strict import (
    Chance,
    Count,
    Execution,
    Name,
    Positive,
    Strict,
    UserPath,
    did_you_mean,
)

Scenario = Name


FROM_IMAGENET = "from-imagenet"
"""The part of a variant that starts pretraining from ImageNet weights."""


class KnnSettings(Strict):
    """Nearest neighbours on the pretraining dataset's own labels, to watch a run."""

    labels: str = Field(
        description="one class a sample: a column of the shards' index, or 'mask', the most "
        "frequent class of the mask"
    )
    epochs: Count = Field(1, description="epochs between two looks")
    train: str = "train"
    test: str = "test"
    neighbours: Count = 20
    samples: Count = Field(5000, description="at most so many of either split")


class Pretrain(Strict):
    """Pretraining of one scenario (paper §4, appendix B)."""

    dataset: str
    splits: tuple[str, ...] = Field(
        ("train",), min_length=1, description="splits of the dataset to pretrain on"
    )
    arch: ArchName = "resnet50"
    archs: dict[str, ArchName] = Field(
        {},
        exclude_if=lambda archs: not archs,  # the settings of runs without it stay the same
        description="backbones of single modalities in place of `arch`, such as "
        "`{optical: resnet50_rda}`",
    )
    imagenet: Execution[UserPath | None] = Field(
        None,
        description="file of ImageNet weights of `arch`, as published (.pth or .safetensors), for "
        "the method `imagenet` and the variant `from-imagenet`",
    )
    released: Execution[UserPath | None] = Field(
        None,
        description="file of both backbones that the authors released, for the method `released`: "
        "its path, or the name that they gave it, under which it is downloaded",
    )
    arch_large: ArchName | None = Field(
        None,
        description="backbone of the variant `large` (Table 3 takes a larger Mix Transformer for "
        "NYUv2); null: the variant changes nothing",
    )
    imagenet_large: Execution[UserPath | None] = Field(
        None, description="file of ImageNet weights of `arch_large`"
    )
    crop: Count = 224
    epochs: Count = 100
    batch_size: Annotated[int, Field(ge=2)] = 256
    optimizer: Literal["lars", "adamw"] = "lars"
    lr: Positive = 0.2
    lr_1d: Positive = Field(0.0048, description="learning rate of biases and batch-norm parameters")
    weight_decay: Annotated[float, Field(ge=0)] = 1e-6
    dim: Count = Field(8192, description="embedding dimensions")
    dim_common: Annotated[int, Field(ge=0)] = Field(7168, description="of which common")
    projector_layers: Annotated[int, Field(ge=0)] = Field(3, description="0: no projector")
    projector_hidden: Count | None = Field(
        None,
        exclude_if=lambda width: width is None,  # the settings of runs without it stay the same
        description="width of the projector's hidden layers; null: `dim`, as in the paper",
    )
    dim_divisor: Count = Field(
        1,
        exclude_if=lambda divisor: divisor == 1,  # as above
        description="divide `dim`, `dim_common` and `projector_hidden` by this, also those of "
        "variants: narrow projectors under the names of wide ones, for a rehearsal",
    )
    projector: Literal["separate", "shared"] = "separate"
    head_dim: Annotated[int, Field(ge=0)] = Field(
        0,
        description="width of a linear layer between backbone and projector (the released code "
        "has one of 2048 after Mix Transformers); 0: none",
    )
    lambd: Positive = 0.0051
    weighting: Literal["paper", "official"] = "paper"
    baselines: Literal["paper", "official"] = Field(
        "paper",
        description="SimCLR's temperature, CLIP's temperature and symmetry, VICReg's covariance: "
        "of those methods' papers, or as in DeCUR's released code",
    )
    intra: bool = Field(True, description="intra-modal terms, equations 4 and 5")
    checkpoint_steps: Execution[Count] = Field(1000, description="steps between two checkpoints")
    monitor_steps: Execution[Count] = Field(
        50, description="steps between two looks at alignment and collapse of the embeddings"
    )
    knn: Execution[KnnSettings | None] = Field(
        None, description="k-NN during pretraining; null: none"
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="of the networks; losses are always computed in float32"
    )
    recompute: Execution[Literal["none", "view", "block"]] = Field(
        "none",
        description="activations to compute again in backward, to save memory: of each "
        "view, or of each block",
    )
    compile: Execution[Literal["none", "optimizer", "all"]] = Field(
        "none",
        description="torch.compile LARS's update, or the networks too: minutes at a run's start",
    )
    cuda_graph: Execution[bool] = Field(
        False,
        description="record the step once as a CUDA graph and replay it: for one GPU whose host is "
        "too slow for it; needs `recompute: none`",
    )
    accumulate_chunks: Count = Field(
        1,
        description="parts of a batch whose losses are averaged: less memory, but not the same "
        "method, since loss and batch norm see one part at a time; `recompute` changes nothing",
    )

    @property
    def share_common(self) -> float:
        """Share of the embedding's dimensions that are common."""
        return self.dim_common / self.dim

    def divided(self) -> Self:
        """The same with widths divided by `dim_divisor`, which is then 1; none is less than 1."""
        if self.dim_divisor == 1:
            return self
        dim = max(1, self.dim // self.dim_divisor)
        hidden = self.projector_hidden
        changes = {
            "dim": dim,
            "dim_common": common_of(self.share_common, dim),
            "projector_hidden": hidden and max(1, hidden // self.dim_divisor),
            "dim_divisor": 1,
        }
        return self.model_copy(update=changes)

    @model_validator(mode="after")
    def _common_fits(self) -> Self:
        if self.dim_common > self.dim:
            raise ValueError(f"dim_common ({self.dim_common}) must not exceed dim ({self.dim})")
        return self

    @model_validator(mode="after")
    def _chunks_fit(self) -> Self:
        if self.batch_size % self.accumulate_chunks:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of accumulate_chunks "
                f"({self.accumulate_chunks})"
            )
        return self


def common_of(share: float, dims: int) -> int:
    """Number of common dimensions, if they are a share of all `dims`."""
    return round(share * dims)


class Augment(Strict):
    """An augmentation preset with changes; what is null is as in `like`."""

    like: PresetName = Field(description="a preset; for own data `image` or `measured`")
    crop_scale: tuple[Positive, Positive] | None = Field(
        None, description="range of the crop's area, as a share of the image's"
    )
    brightness_contrast: Chance | None = None
    gray: Chance | None = None
    blur: Chance | None = None
    solarize: Chance | None = None
    hflip: Chance | None = None
    vflip: Chance | None = None


class ScenarioSettings(Strict):
    """A pair of modalities, each with its augmentation preset, and how it is pretrained."""

    modalities: dict[str, PresetName | Augment] = Field(
        description="modality: augmentation preset, in order"
    )
    pretrain: Pretrain

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if len(self.modalities) != 2:
            raise ValueError(f"modalities: exactly two are needed, got {list(self.modalities)}")
        for name in self.pretrain.archs:
            if name not in self.modalities:
                hint = did_you_mean(name, self.modalities)
                raise ValueError(
                    f"pretrain.archs: no modality '{name}' in {list(self.modalities)}{hint}"
                )
        return self
