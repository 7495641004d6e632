"""The typed configuration: one strict model, from which the JSON schema is made.

Defaults are the paper's (section 4 and appendix B). A key that no part of the model knows is an
error, and so is an impossible value; both are named in one line. A stage receives its own resolved
settings and nothing else, so what a job can read is exactly what makes it run again.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from decur.errors import DecurError
from decur.paths import Cell, Run

Method = Literal[
    "decur",
    "barlow-twins",
    "barlow-twins-single",
    "vicreg",
    "simclr",
    "clip",
    "random",
    "supervised",
    "imagenet",
]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
"""A part of a path, and a word of a command."""

Scenario = Name
UNTRAINED = ("random", "supervised", "imagenet")
"""Methods that pretrain nothing: their backbones are the seeded initialisation, or ImageNet's."""

FROM_IMAGENET = "from-imagenet"
"""The part of a variant that starts pretraining from ImageNet weights."""

CONTRASTIVE = ("simclr", "clip")
"""Methods with a small projector of their own: 512 hidden and 128 embedding dimensions."""

OFFICIAL_RANKS = 4
"""Processes that the released code was run on, and that some of its faults depend on."""

LOST_GRADIENT = ("decur", "barlow-twins", "barlow-twins-single")
"""Methods whose gradient the released code makes too small by the number of its processes. LARS
scales that away for weights, but not for the parameters of one dimension."""

ModalityName = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
Count = Annotated[int, Field(ge=1)]
Pixels = Annotated[int, Field(ge=16)]
Positive = Annotated[float, Field(gt=0)]
Chance = Annotated[float, Field(ge=0, le=1)]
R = TypeVar("R", bound=BaseModel)
Size = tuple[Count, Count]
"""Height and width in pixels."""


class Strict(BaseModel):
    """A model that forbids unknown keys and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Piece(NamedTuple):
    """One of several jobs that preprocess a dataset at once; written `2-of-8`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str(piece)`."""
        found = re.fullmatch(r"([0-9]+)-of-([0-9]+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise DecurError(f"piece '{text}': expected <number>-of-<count>, for example 2-of-8")
        return cls(int(found[1]), int(found[2]))


class ScenesSettings(Strict):
    """How many synthetic scenes to draw, and from which seed."""

    train: Count
    test: Count
    seed: int = 0


Limits = tuple[float, float]
"""What becomes 0 and what becomes 255."""


class FolderSettings(Strict):
    """One modality of a dataset of one's own: a folder of images, all with the same bands."""

    folder: str = Field(
        description="GeoTIFF, PNG, JPEG or JPEG 2000; subfolders are part of a name"
    )
    bands: Annotated[tuple[str, ...], Field(min_length=1)]
    scale: Literal["stored", "percentiles"] | Limits | tuple[Limits, ...] = Field(
        "stored",
        description="how values become 0..255: 8 bit as stored, the 1-99 % range of each band over "
        "the training images, or [min, max], one of all bands or a list of one a band",
    )

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        pairs = self.limits or ()
        if pairs and len(pairs) != len(self.bands):
            raise ValueError(f"scale: {len(pairs)} pairs for {len(self.bands)} bands")
        if wrong := [pair for pair in pairs if not pair[0] < pair[1]]:
            raise ValueError(f"scale: {list(wrong[0])} is no [min, max]")
        return self

    @property
    def limits(self) -> tuple[Limits, ...] | None:
        """What becomes 0 and 255 of each band; None: as stored, or not measured yet."""
        if isinstance(self.scale, str):
            return None
        first = self.scale[0]
        return self.scale if isinstance(first, tuple) else (self.scale,) * len(self.bands)  # type: ignore[return-value]


class FoldersSettings(Strict):
    """A dataset of one's own: folders of images with matching names, labelled or not."""

    modalities: dict[ModalityName, FolderSettings]
    masks: str | None = Field(
        None, description="folder of label masks: one band of class indices; some may be missing"
    )
    labels: str | None = Field(
        None,
        description="CSV of `id,label`: an image's name without suffix, and its class, or several "
        "with ';' between them",
    )
    classes: tuple[str, ...] = Field((), description="in the order of the masks' values")
    ignore: Annotated[int, Field(ge=0, le=255)] = Field(255, description="mask value: not labelled")
    cut: bool = Field(
        False,
        description="cut images into squares of `pixels`, what remains at the right and the bottom "
        "left out; otherwise each is one sample, resized to `pixels`",
    )
    split: Annotated[float, Field(gt=0, lt=1)] | str = Field(
        0.2,
        description="share of the images, by a hash of their names, that is the split `test`; or a "
        "CSV of `id,split` with the splits `train` and `test`",
    )
    title: str | None = None
    licence: str = "none stated"
    homepage: str = ""

    @model_validator(mode="after")
    def _is_a_dataset(self) -> Self:
        if len(self.modalities) < 2:
            raise ValueError(f"modalities: at least two are needed, got {list(self.modalities)}")
        if "mask" in self.modalities:
            raise ValueError("modalities: 'mask' is the name of the labels; choose another")
        if self.masks is not None and self.labels is not None:
            raise ValueError("give 'masks' or 'labels', not both")
        if (self.masks is None and self.labels is None) == bool(self.classes):
            raise ValueError("give 'classes' if and only if there are 'masks' or 'labels'")
        if len(self.classes) > self.ignore and self.masks is not None:
            raise ValueError(f"ignore: {self.ignore} is one of the values of the classes")
        return self


class DatasetSettings(Strict):
    """One dataset: where its raw files come from and how large its stored samples are."""

    source: Literal["scenes", "samples", "archive", "folders"] = "archive"
    folders: FoldersSettings | None = Field(
        None,
        exclude_if=lambda folders: folders is None,  # the settings of others stay the same
        description="images of one's own, for `source: folders`; the dataset's name is free",
    )
    folder: str | None = Field(
        None, description="folder of the sample frames, or of the unpacked official archives"
    )
    archives: str | None = Field(
        None, description="folder of archives that are there already or were fetched by hand"
    )
    mirror: str | None = Field(
        None, description="URL of a folder in which archives are looked for first"
    )
    checksums: str | None = Field(
        None, description="list by sha256sum in place of the official checksums of the archives"
    )
    scenes: ScenesSettings | None = None
    pixels: Pixels | tuple[Pixels, Pixels] = Field(
        264, description="side of a stored sample, or its height and width (RGB-depth only)"
    )
    modalities: tuple[str, ...] | None = Field(
        None, description="which of the dataset's modalities to store (default: its first two)"
    )
    seasons: Annotated[int, Field(ge=1, le=4)] = 4
    splits: Literal["official", "seco"] = Field(
        "official", description="which lists split BigEarthNet; the paper took SeCo's"
    )
    pieces: Count = Field(
        1,
        exclude=True,  # what is stored is the same, so no product names it
        description="jobs that preprocess the dataset at once, for a cluster",
    )
    bad_samples: Literal["stop", "skip"] = Field(
        "stop",
        description="a sample that cannot be read or is not valid ends preprocessing, or is left "
        "out and listed in the shards' quarantine.csv",
    )

    @model_validator(mode="after")
    def _scenes_have_counts(self) -> Self:
        if (self.source == "scenes") != (self.scenes is not None):
            raise ValueError("give 'scenes' (train, test, seed) if and only if source is 'scenes'")
        if (self.source == "folders") != (self.folders is not None):
            raise ValueError("give 'folders' if and only if source is 'folders'")
        return self

    @property
    def side(self) -> int:
        """`pixels` of datasets whose samples are squares.

        Raises:
            DecurError: it is a height and a width.
        """
        if not isinstance(self.pixels, int):
            raise DecurError(f"pixels {list(self.pixels)}: these samples are square; give one side")
        return self.pixels


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
    splits: tuple[str, ...] = Field(("train",), description="splits of the dataset to pretrain on")
    arch: str = "resnet50"
    archs: dict[str, str] = Field(
        {},
        exclude_if=lambda archs: not archs,  # the settings of runs without it stay the same
        description="backbones of single modalities in place of `arch`, such as "
        "`{optical: resnet50_rda}`",
    )
    imagenet: str | None = Field(
        None,
        description="file of ImageNet weights of `arch`, as published (.pth or .safetensors), for "
        "the method `imagenet` and the variant `from-imagenet`",
    )
    arch_large: str | None = Field(
        None,
        description="backbone of the variant `large` (Table 3 takes a larger Mix Transformer for "
        "NYUv2); null: the variant changes nothing",
    )
    imagenet_large: str | None = Field(None, description="file of ImageNet weights of `arch_large`")
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
    checkpoint_steps: Count = Field(1000, description="steps between two checkpoints")
    monitor_steps: Count = Field(
        50, description="steps between two looks at alignment and collapse of the embeddings"
    )
    knn: KnnSettings | None = Field(None, description="k-NN during pretraining; null: none")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="of the networks; losses are always computed in float32"
    )
    recompute: Literal["none", "view", "block"] = Field(
        "none",
        description="activations to compute again in backward, to save memory: of each "
        "view, or of each block",
    )
    compile: Literal["none", "optimizer", "all"] = Field(
        "none",
        description="torch.compile LARS's update, or the networks too: minutes at a run's start",
    )
    cuda_graph: bool = Field(
        False,
        description="record the step once as a CUDA graph and replay it: for one GPU whose host is "
        "too slow for it; needs `recompute: none`",
    )
    accumulate_chunks: Count = Field(
        1,
        description="parts of a batch whose losses are averaged: less memory, but not the same "
        "method, since loss and batch norm see one part at a time; `recompute` changes nothing",
    )

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


class Augment(Strict):
    """An augmentation preset with changes; what is null is as in `like`."""

    like: str = Field(description="a preset; for own data `image` or `measured`")
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

    modalities: dict[str, str | Augment] = Field(
        description="modality: augmentation preset, in order"
    )
    pretrain: Pretrain

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if len(self.modalities) != 2:
            raise ValueError(f"modalities: exactly two are needed, got {list(self.modalities)}")
        for name in self.pretrain.archs:
            if name not in self.modalities:
                raise ValueError(f"pretrain.archs: no modality '{name}' in {list(self.modalities)}")
        return self


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
    batch: Count = Field(8, description="windows that the network sees at once")


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
        default=50, description="points of the path integral"
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


class Config(Strict):
    """The whole configuration of one scale."""

    scale: Name
    results: Annotated[str, Field(pattern=r"^[^-{}\n][^{}\n]*$")] = Field(
        "results", description="folder of all products; Snakemake would read braces as a pattern"
    )
    methods: tuple[Method, ...]
    seeds: tuple[Annotated[int, Field(ge=0)], ...]
    experiments: tuple[str, ...] = Field((), description="tables and figures of experiments.yaml")
    own_experiments: dict[str, dict[str, Any]] = Field(
        {},
        exclude_if=lambda declared: not declared,
        description="more tables and figures, declared as in experiments.yaml",
    )
    scenarios: dict[Scenario, ScenarioSettings]
    datasets: dict[Name, DatasetSettings]
    transfer: dict[Name, Transfer]
    transfer_together: bool = Field(
        False, description="evaluate a backbone's transfer runs in one process (small nets)"
    )
    explain: Explain = Explain()

    @model_validator(mode="after")
    def _datasets_exist(self) -> Self:
        used = {name: f"scenarios.{name}.pretrain.dataset" for name in self.scenarios}
        wanted = [(self.scenarios[s].pretrain.dataset, key) for s, key in used.items()]
        wanted += [(name, f"transfer.{name}") for name in self.transfer]
        for dataset, key in wanted:
            if dataset not in self.datasets:
                raise ValueError(f"{key}: no dataset '{dataset}' under 'datasets'")
        return self

    @model_validator(mode="after")
    def _own_modalities_exist(self) -> Self:
        for name, scenario in self.scenarios.items():
            own = self.datasets[scenario.pretrain.dataset].folders
            if own is None:
                continue
            for modality in scenario.modalities:
                if modality not in own.modalities:
                    raise ValueError(
                        f"scenarios.{name}.modalities: {scenario.pretrain.dataset} has no "
                        f"'{modality}' (it has {', '.join(own.modalities)})"
                    )
        return self


class PretrainSettings(Pretrain):
    """Everything a pretraining job reads; `modalities` maps a modality to its augmentation.

    `imagenet` is the file that this very run starts from, null where it starts at random.
    """

    scenario: Scenario
    method: Method
    seed: int
    modalities: dict[str, str | Augment]

    def arch_of(self, modality: str) -> str:
        """The backbone of a modality."""
        return self.archs.get(modality, self.arch)


class TransferSettings(Strict):
    """Everything a transfer job reads: how the backbone was made, and the recipe by dataset."""

    run: str
    pretrain: PretrainSettings
    recipes: dict[str, Transfer]


class ExplainSettings(Strict, Generic[R]):
    """Everything that an explainer reads: how the run was made, and its own recipe."""

    run: str
    pretrain: PretrainSettings
    recipe: R


EXPLAINERS: dict[str, type[ExplainSettings[Any]]] = {
    "alignment": ExplainSettings[Alignment],
    "tsne": ExplainSettings[Tsne],
    "gradcam": ExplainSettings[GradCam],
    "saliency": ExplainSettings[Saliency],
    "spectral": ExplainSettings[Spectral],
    "share": ExplainSettings[Share],
}
"""By name the settings of each explainer: a module of `decur.explain` and one of
`decur.tables.explained`."""


def first_problem(error: ValidationError, where: str) -> str:
    """One line for the first problem of a validation: where, which key, why, what was found."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'; remove it or correct its spelling"
    text = problem["msg"].removeprefix("Value error, ")
    found = problem["input"]
    given = "" if isinstance(found, dict | BaseModel) else f" (found {found!r})"
    return f"{where}: {key}: {text}{given}" if key else f"{where}: {text}{given}"


def parse_config(tree: Mapping[str, Any], where: str = "config") -> Config:
    """Validate a configuration tree.

    Raises:
        DecurError: naming `where`, the first wrong key and the reason, in one line.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise DecurError(first_problem(error, where)) from None


def load_config(source: Path | str) -> Config:
    """Read and validate a YAML file, or the text of a JSON object."""
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return parse_config(yaml.safe_load(source))
    path = Path(source)
    if not path.is_file():
        raise DecurError(f"{path}: no such configuration file")
    try:
        tree = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise DecurError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise DecurError(f"{path}: expected a mapping of keys, found {type(tree).__name__}")
    return parse_config(tree, str(path))


def apply_variant(settings: PretrainSettings, variant: str) -> PretrainSettings:
    """The settings of a variant such as `dim-512_common-75`.

    Parts: `dim-<K>` (keeps the share of common dimensions), `hidden-<width>` (of the projector's
    hidden layers; without it K), `common-<percent>` (100: without decoupling), `no-intra`,
    `no-projector` (the loss acts on the features), `official` (the released code's weighting,
    shared projector and settings of the baselines), `data-<dataset>`, `from-imagenet` (the
    backbones start from ImageNet weights), `large` (`arch_large`, if any).
    ImageNet files that the run does not start from are left out of the result.

    Raises:
        DecurError: a part that is none of these, or no file of the ImageNet weights to start from.
    """
    changes: dict[str, Any] = {"imagenet": None, "arch_large": None, "imagenet_large": None}
    share = settings.dim_common / settings.dim
    for part in [] if variant == "default" else variant.split("_"):
        key, _, value = part.partition("-")
        if key == "dim" and value.isdigit():
            changes["dim"] = int(value)
        elif key == "hidden" and value.isdigit():
            changes["projector_hidden"] = int(value)
        elif key == "common" and _is_percent(value):
            share = float(value) / 100
        elif part == "no-intra":
            changes["intra"] = False
        elif part == "no-projector":
            changes["projector_layers"] = 0
        elif part == "official":
            changes |= {"weighting": "official", "projector": "shared", "baselines": "official"}
            if settings.optimizer == "lars" and settings.method in LOST_GRADIENT:
                changes["lr_1d"] = settings.lr_1d / OFFICIAL_RANKS
            if settings.arch.startswith("mit"):
                changes["head_dim"] = 2048
        elif key == "data" and value:
            changes["dataset"] = value
        elif part == "large":
            changes["arch"] = settings.arch_large or settings.arch
            changes["archs"] = {} if settings.arch_large else settings.archs
        elif part != FROM_IMAGENET:
            raise DecurError(f"variant '{variant}': cannot read '{part}'")
    if starts_from_imagenet(settings.method, variant):
        changes["imagenet"] = _needed_imagenet_file(settings, variant)
    changes["dim_common"] = round(share * changes.get("dim", settings.dim))
    return settings.model_copy(update=changes)


def canonical_variant(config: Config, scenario: Scenario, variant: str) -> str:
    """The variant without the parts that are the scenario's default anyway.

    To start from ImageNet weights never is, and which file that takes only the whole variant tells.
    """
    parts = [] if variant == "default" else variant.split("_")

    def settings(part: str) -> PretrainSettings:
        return pretrain_settings(config, Run(scenario, "decur", part))

    default = settings("default")
    changing = [part for part in parts if part == FROM_IMAGENET or settings(part) != default]
    return "_".join(changing) or "default"


def starts_from_imagenet(method: str, variant: str) -> bool:
    """Whether a run's backbones start from a file of ImageNet weights."""
    return method == "imagenet" or FROM_IMAGENET in variant.split("_")


def imagenet_file(pretrain: Pretrain, variant: str) -> str | None:
    """The file of ImageNet weights of the variant's backbone; None where the config has none."""
    large = pretrain.arch_large is not None and "large" in variant.split("_")
    return pretrain.imagenet_large if large else pretrain.imagenet


def _needed_imagenet_file(settings: PretrainSettings, variant: str) -> str:
    file = imagenet_file(settings, variant)
    if file is None:
        raise DecurError(
            f"scenarios.{settings.scenario}.pretrain: method '{settings.method}', variant "
            f"'{variant}' starts from ImageNet weights, and there is no file of them; give "
            "`imagenet` (for `arch_large`: `imagenet_large`)"
        )
    return file


def _is_percent(text: str) -> bool:
    return text.replace(".", "", 1).isdigit() and float(text) <= 100


def pretrain_settings(config: Config, run: Run) -> PretrainSettings:
    """What the pretraining job of a run reads: scenario, method, variant and seed resolved.

    Raises:
        DecurError: the config has no such scenario or method.
    """
    if run.scenario not in config.scenarios:
        raise DecurError(f"run '{run}': scenario '{run.scenario}' is not in the config")
    scenario = config.scenarios[run.scenario]
    try:
        base = PretrainSettings(
            **scenario.pretrain.model_dump(),
            scenario=run.scenario,
            method=run.method,  # type: ignore[arg-type]
            seed=run.seed,
            modalities=scenario.modalities,
        )
    except ValidationError as error:
        raise DecurError(first_problem(error, f"run '{run}'")) from None
    return apply_variant(base, run.variant)


def transfer_settings(config: Config, run: Run, cells: list[Cell]) -> TransferSettings:
    """What the transfer job of a run reads, for the datasets of `cells`."""
    pretrain = pretrain_settings(config, run)
    for cell in cells:
        if cell.protocol.startswith("probe"):
            continue
        if cell.dataset not in config.transfer:
            raise DecurError(f"cell '{cell}': no recipe under transfer.{cell.dataset}")
        if cell.protocol == "cmx" and config.transfer[cell.dataset].cmx is None:
            raise DecurError(f"cell '{cell}': no recipe under transfer.{cell.dataset}.cmx")
    recipes = {c.dataset: config.transfer[c.dataset] for c in cells if c.dataset in config.transfer}
    return TransferSettings(run=str(run), pretrain=pretrain, recipes=recipes)


def explain_settings(config: Config, run: Run, kind: str) -> ExplainSettings[Any]:
    """What the job of an explainer reads for a run."""
    return EXPLAINERS[kind](
        run=str(run), pretrain=pretrain_settings(config, run), recipe=getattr(config.explain, kind)
    )
