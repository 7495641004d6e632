"""Settings of the pretraining of a pair of modalities (paper section 4 and appendix B)."""

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
    """Nearest-neighbour accuracy on labels of the pretraining dataset, to monitor a run."""

    labels: str = Field(
        description="source of one class per sample: a column of the index of the shards, or "
        "`mask` for the most frequent class of the mask"
    )
    epochs: Count = Field(1, description="epochs between two evaluations")
    train: str = Field("train", description="split with the neighbours")
    test: str = Field("test", description="split that is classified")
    neighbours: Count = Field(20, description="number of neighbours that vote")
    samples: Count = Field(5000, description="maximum number of samples per split")


class Pretrain(Strict):
    """Pretraining of one scenario (paper §4, appendix B)."""

    dataset: str = Field(description="name of the dataset, declared in `datasets`")
    splits: tuple[str, ...] = Field(
        ("train",), min_length=1, description="splits of the dataset that are used for pretraining"
    )
    arch: ArchName = Field(
        "resnet50", description="architecture of the backbones of both modalities"
    )
    archs: dict[str, ArchName] = Field(
        {},
        exclude_if=lambda archs: not archs,  # keep the settings of other runs unchanged
        description="architectures of single modalities that replace `arch`, such as "
        "`{optical: resnet50_rda}`",
    )
    imagenet: Execution[UserPath | None] = Field(
        None,
        description="file of published ImageNet weights of `arch` (.pth or .safetensors), for the "
        "method `imagenet` and the variant `from-imagenet`",
    )
    released: Execution[UserPath | None] = Field(
        None,
        description="file of both backbones that the authors released, for the method `released`: "
        "a path, or the published file name, which is then downloaded",
    )
    arch_large: ArchName | None = Field(
        None,
        description="architecture of the variant `large` (Table 3 uses a larger Mix Transformer "
        "for NYUv2); null: the variant has no effect",
    )
    imagenet_large: Execution[UserPath | None] = Field(
        None, description="file of ImageNet weights of `arch_large`"
    )
    crop: Count = Field(224, description="side of an augmented view, in pixels")
    epochs: Count = Field(100, description="number of epochs")
    batch_size: Annotated[int, Field(ge=2)] = Field(
        256, description="samples per step, over all processes"
    )
    optimizer: Literal["lars", "adamw"] = Field("lars", description="optimiser")
    lr: Positive = Field(
        0.2, description="initial learning rate of weights (parameters of two or more dimensions)"
    )
    lr_1d: Positive = Field(
        0.0048, description="initial learning rate of biases and batch-norm parameters"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        1e-6, description="weight decay of the optimiser"
    )
    dim: Count = Field(8192, description="number of embedding dimensions")
    dim_common: Annotated[int, Field(ge=0)] = Field(
        7168, description="number of common dimensions among the embedding dimensions"
    )
    projector_layers: Annotated[int, Field(ge=0)] = Field(
        3, description="number of projector layers; 0: no projector"
    )
    projector_hidden: Count | None = Field(
        None,
        exclude_if=lambda width: width is None,  # keep the settings of other runs unchanged
        description="width of the hidden layers of the projector; null: `dim`, as in the paper",
    )
    dim_divisor: Count = Field(
        1,
        exclude_if=lambda divisor: divisor == 1,  # keep the settings of other runs unchanged
        description="divisor of `dim`, `dim_common` and `projector_hidden`, also in variants: "
        "narrow projectors with the names of wide ones, for a rehearsal",
    )
    projector: Literal["separate", "shared"] = Field(
        "separate", description="one projector per modality, or one for both"
    )
    head_dim: Annotated[int, Field(ge=0)] = Field(
        0,
        description="width of a linear layer between backbone and projector (2048 after Mix "
        "Transformers in the released code); 0: none",
    )
    lambd: Positive = Field(
        0.0051, description="weight of the off-diagonal terms of the loss (DeCUR, Barlow Twins)"
    )
    weighting: Literal["paper", "official"] = Field(
        "paper",
        description="weighting of the four terms of the DeCUR loss: their sum (equation 6), or as "
        "in the released code, which halves the weight of the cross-modal terms",
    )
    baselines: Literal["paper", "official"] = Field(
        "paper",
        description="temperature of SimCLR, temperature and symmetry of CLIP, and covariance of "
        "VICReg: as in the papers of these methods, or as in the released code of DeCUR",
    )
    intra: bool = Field(True, description="use intra-modal terms (equations 4 and 5)")
    checkpoint_steps: Execution[Count] = Field(1000, description="steps between two checkpoints")
    monitor_steps: Execution[Count] = Field(
        50, description="steps between two measurements of alignment and collapse of the embeddings"
    )
    knn: Execution[KnnSettings | None] = Field(
        None, description="nearest-neighbour evaluation during pretraining; null: none"
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="precision of the networks; losses are always computed in float32"
    )
    recompute: Execution[Literal["none", "view", "block"]] = Field(
        "none",
        description="recompute activations in the backward pass to save memory, per view or per "
        "block",
    )
    compile: Execution[Literal["none", "optimizer", "all"]] = Field(
        "none",
        description="parts to compile with torch.compile: the update of LARS, or also the "
        "networks; takes minutes at the start of a run",
    )
    cuda_graph: Execution[bool] = Field(
        False,
        description="record the step once as a CUDA graph and replay it, for one GPU with a slow "
        "host; requires `recompute: none`",
    )
    accumulate_chunks: Count = Field(
        1,
        description="number of chunks of a batch whose losses are averaged: saves memory, but "
        "changes the method, because loss and batch norm use one chunk at a time; `recompute` "
        "does not change it",
    )

    @property
    def share_common(self) -> float:
        """Return the fraction of embedding dimensions that are common."""
        return self.dim_common / self.dim

    def divided(self) -> Self:
        """Divide the widths by `dim_divisor`, at least to 1, and set `dim_divisor` to 1."""
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
    """Return the number of common dimensions, given their fraction of all `dims`."""
    return round(share * dims)


class Augment(Strict):
    """An augmentation preset with changes; null keeps the value of the preset `like`."""

    like: PresetName = Field(
        description="augmentation preset to change; for your own images, `image` or `measured`"
    )
    crop_scale: tuple[Positive, Positive] | None = Field(
        None, description="range of the area of a crop, as a fraction of the image; null: as `like`"
    )
    brightness_contrast: Chance | None = Field(
        None, description="probability of a change of brightness and contrast; null: as `like`"
    )
    gray: Chance | None = Field(
        None, description="probability that channels are replaced by their mean; null: as `like`"
    )
    blur: Chance | None = Field(None, description="probability of a Gaussian blur; null: as `like`")
    solarize: Chance | None = Field(
        None, description="probability that bright values are inverted; null: as `like`"
    )
    hflip: Chance | None = Field(
        None, description="probability of a left-right flip; null: as `like`"
    )
    vflip: Chance | None = Field(
        None, description="probability of a top-bottom flip; null: as `like`"
    )


class ScenarioSettings(Strict):
    """A pair of modalities, each with its augmentation preset, and the pretraining settings."""

    modalities: dict[str, PresetName | Augment] = Field(
        description="the two modalities in order, each with its augmentation preset"
    )
    pretrain: Pretrain = Field(description="settings of the pretraining")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if len(self.modalities) != 2:
            raise ValueError(f"modalities: expected exactly two, found {list(self.modalities)}")
        for name in self.pretrain.archs:
            if name not in self.modalities:
                hint = did_you_mean(name, self.modalities)
                raise ValueError(
                    f"pretrain.archs: no modality '{name}' in {list(self.modalities)}{hint}"
                )
        return self
