"""Resolve the settings of the jobs of one run: scenario, method, variant and seed."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from decur.artifacts.paths import Cell, Paths, Run
from decur.config.architectures import ARCHITECTURES
from decur.config.augmentations import PresetName
from decur.config.evaluation import Transfer
from decur.config.explainers import EXPLAINERS
from decur.config.methods import METHODS, OFFICIAL_RANKS, MethodName
from decur.config.pretraining import FROM_IMAGENET, Augment, Pretrain, Scenario, common_of
from decur.config.protocols import PROTOCOLS
from decur.config.released import BY_NAME
from decur.config.scale import Config
from decur.config.strict import Strict, did_you_mean, first_problem
from decur.errors import DecurError

R = TypeVar("R", bound=BaseModel)

VARIANT_PARTS = (
    "dim-<K>, hidden-<width>, common-<percent>, no-intra, no-projector, official, "
    f"data-<dataset>, {FROM_IMAGENET}, large, joined by '_'"
)
"""The parts of a variant, see `apply_variant`."""


class PretrainSettings(Pretrain):
    """All settings of a pretraining job; `modalities` maps each modality to its augmentation.

    `imagenet` is the file of weights that the run starts from, or None if it starts from random
    weights. `released` is the file with its backbones, or None.
    """

    scenario: Scenario
    method: MethodName
    seed: Annotated[int, Field(ge=0)]
    modalities: dict[str, PresetName | Augment]

    def arch_of(self, modality: str) -> str:
        """Return the architecture of the backbone of a modality."""
        return self.archs.get(modality, self.arch)


def count_views(settings: PretrainSettings) -> int:
    """Return the number of views of each modality that a run draws per step."""
    method = METHODS[settings.method]
    if settings.intra or method.views_without_intra is None:
        return method.views
    return method.views_without_intra


def dims_common(settings: PretrainSettings, dims: int) -> int:
    """Return the number of common dimensions of an embedding with `dims` dimensions.

    Without a projector, `dims` differs from the setting `dim`.
    """
    return common_of(settings.share_common, dims)


class TransferSettings(Strict):
    """All settings of a transfer job: those of the pretraining, and the recipes by dataset."""

    run: str
    pretrain: PretrainSettings
    recipes: dict[str, Transfer]


class ExplainSettings(Strict, Generic[R]):
    """All settings of an explainer's job: those of the pretraining, and its own recipe."""

    run: str
    pretrain: PretrainSettings
    recipe: R


def explain_settings_type(explainer: str) -> type[ExplainSettings[Any]]:
    """Return the settings model of an explainer's job, with the type of its recipe."""
    generic: Any = ExplainSettings  # mypy rejects type arguments that are known only at run time
    model: type[ExplainSettings[Any]] = generic[EXPLAINERS[explainer].recipe]
    return model


def apply_variant(settings: PretrainSettings, variant: str) -> PretrainSettings:
    """Return the settings of a variant such as `dim-512_common-75`.

    The parts of a variant are:

    - `dim-<K>`: embedding dimensions; the share of common dimensions is kept;
    - `hidden-<width>`: width of the hidden layers of the projector; without it, K;
    - `common-<percent>`: share of common dimensions; 100: without decoupling;
    - `no-intra`: no intra-modal terms;
    - `no-projector`: the loss acts on the features;
    - `official`: as in the released code: the weighting, a shared projector, the settings of the
      baselines and, with LARS, the effect of its lost gradient (`Method.lost_gradient`);
    - `data-<dataset>`: another dataset;
    - `from-imagenet`: the backbones start from ImageNet weights;
    - `large`: the backbone `arch_large`, if any.

    Files of weights that the run does not start from are removed from the result. Widths are
    divided by `dim_divisor`, which is then 1.

    Raises:
        DecurError: a part is unknown, or the file of the initial weights is not given.
    """
    files = ("imagenet", "imagenet_large", "released")
    changes: dict[str, Any] = {**dict.fromkeys(files), "arch_large": None}
    share = settings.share_common
    for part in [] if variant == "default" else variant.split("_"):
        key, _, value = part.partition("-")
        if key == "dim" and _is_count(value):
            changes["dim"] = int(value)
        elif key == "hidden" and _is_count(value):
            changes["projector_hidden"] = int(value)
        elif key == "common" and _is_percent(value):
            share = float(value) / 100
        elif part == "no-intra":
            changes["intra"] = False
        elif part == "no-projector":
            changes["projector_layers"] = 0
        elif part == "official":
            changes |= {"weighting": "official", "projector": "shared", "baselines": "official"}
            if settings.optimizer == "lars" and METHODS[settings.method].lost_gradient:
                changes["lr_1d"] = settings.lr_1d / OFFICIAL_RANKS
                changes["weight_decay"] = settings.weight_decay * OFFICIAL_RANKS
            if width := ARCHITECTURES[settings.arch].released_head_dim:
                changes["head_dim"] = width
        elif key == "data" and value:
            changes["dataset"] = value
        elif part == "large":
            changes["arch"] = settings.arch_large or settings.arch
            changes["archs"] = {} if settings.arch_large else settings.archs
        elif part != FROM_IMAGENET:
            raise DecurError(
                f"variant '{variant}': cannot read '{part}'; known parts are {VARIANT_PARTS}"
            )
    start = starting_weights(settings, settings.method, variant)
    if start is not None:
        changes[start.kind] = _needed_file(start, settings, variant)
    changes["dim_common"] = common_of(share, changes.get("dim", settings.dim))
    return settings.model_copy(update=changes).divided()


def canonical_variant(config: Config, scenario: Scenario, variant: str) -> str:
    """Return the variant without the parts that equal the defaults of the scenario.

    `from-imagenet` is always kept: it is never a default, and its file depends on the full variant.
    """
    parts = [] if variant == "default" else variant.split("_")

    def settings(part: str) -> PretrainSettings:
        return pretrain_settings(config, Run(scenario, "decur", part))

    default = settings("default")
    changing = [part for part in parts if part == FROM_IMAGENET or settings(part) != default]
    return "_".join(changing) or "default"


@dataclass(frozen=True)
class StartingWeights:
    """The file of weights that a run starts from; `key` is its key in `pretrain`."""

    key: Literal["imagenet", "imagenet_large", "released"]
    file: str | None

    @property
    def kind(self) -> str:
        """Return the key in the settings of the run, which have no separate large backbone."""
        return self.key.removesuffix("_large")

    @property
    def is_published(self) -> bool:
        """Return whether the file is given by the name that the authors published."""
        return self.key == "released" and self.file in BY_NAME


def starting_weights(pretrain: Pretrain, method: str, variant: str) -> StartingWeights | None:
    """Return the file of weights that a run starts from; None if it starts from random weights."""
    parts = variant.split("_")
    if METHODS[method].released:
        return StartingWeights("released", pretrain.released)
    if not METHODS[method].imagenet and FROM_IMAGENET not in parts:
        return None
    if pretrain.arch_large is not None and "large" in parts:
        return StartingWeights("imagenet_large", pretrain.imagenet_large)
    return StartingWeights("imagenet", pretrain.imagenet)


def _needed_file(start: StartingWeights, settings: PretrainSettings, variant: str) -> str:
    if start.file is None:
        raise DecurError(
            f"scenarios.{settings.scenario}.pretrain: method '{settings.method}', variant "
            f"'{variant}' needs a file of weights, but none is given; add `{start.key}`"
        )
    return start.file


def _is_count(text: str) -> bool:
    return re.fullmatch("[1-9][0-9]*", text) is not None


def _is_percent(text: str) -> bool:
    return re.fullmatch(r"[0-9]*\.?[0-9]+", text) is not None and float(text) <= 100


def pretrain_settings(config: Config, run: Run) -> PretrainSettings:
    """Resolve the settings of the pretraining job of a run.

    Raises:
        DecurError: the configuration has no such scenario or method.
    """
    if run.scenario not in config.scenarios:
        hint = did_you_mean(run.scenario, config.scenarios)
        raise DecurError(f"run '{run}': scenario '{run.scenario}' is not in the config{hint}")
    scenario = config.scenarios[run.scenario]
    try:
        base = PretrainSettings(
            **scenario.pretrain.model_dump(),
            scenario=run.scenario,
            method=run.method,
            seed=run.seed,
            modalities=scenario.modalities,
        )
    except ValidationError as error:
        raise DecurError(first_problem(error, f"run '{run}'")) from None
    settings = apply_variant(base, run.variant)
    if settings.released in BY_NAME:
        file = Paths(config.results, config.scale).released(settings.released)
        return settings.model_copy(update={"released": file})
    return settings


def transfer_settings(config: Config, run: Run, cells: list[Cell]) -> TransferSettings:
    """Resolve the settings of the transfer job of a run, for the datasets of `cells`."""
    pretrain = pretrain_settings(config, run)
    for cell in cells:
        check_recipe(config, cell)
    recipes = {c.dataset: config.transfer[c.dataset] for c in cells if c.dataset in config.transfer}
    return TransferSettings(run=str(run), pretrain=pretrain, recipes=recipes)


def check_recipe(config: Config, cell: Cell) -> None:
    """Check that the configuration has a recipe for a cell; protocols without labels need none.

    Raises:
        DecurError: the recipe is missing, or the protocol needs scenes and the dataset has none.
    """
    protocol, key = PROTOCOLS[cell.protocol], f"transfer.{cell.dataset}"
    if not protocol.labelled:
        if config.datasets[cell.dataset].source != "scenes":
            raise DecurError(
                f"cell '{cell}': '{cell.protocol}' predicts the known factors of scenes, but the "
                f"source of datasets.{cell.dataset} is not 'scenes'; choose another protocol"
            )
        return
    if cell.dataset not in config.transfer:
        raise DecurError(f"cell '{cell}': no recipe under {key}; add one")
    if protocol.recipe and getattr(config.transfer[cell.dataset], protocol.recipe) is None:
        raise DecurError(f"cell '{cell}': no recipe under {key}.{protocol.recipe}; add one")


def explain_settings(config: Config, run: Run, explainer: str) -> ExplainSettings[Any]:
    """Resolve the settings of an explainer's job for a run."""
    recipe = getattr(config.explain, explainer)
    pretrain = pretrain_settings(config, run)
    return explain_settings_type(explainer)(run=str(run), pretrain=pretrain, recipe=recipe)
