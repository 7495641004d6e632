"""What a job of one run reads: its stage's own settings, with its variant resolved."""

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
    """Everything a pretraining job reads; `modalities` maps a modality to its augmentation.

    `imagenet` is the file that this very run starts from, null where it starts at random;
    `released` the file that holds its backbones.
    """

    scenario: Scenario
    method: MethodName
    seed: Annotated[int, Field(ge=0)]
    modalities: dict[str, PresetName | Augment]

    def arch_of(self, modality: str) -> str:
        """The backbone of a modality."""
        return self.archs.get(modality, self.arch)


def count_views(settings: PretrainSettings) -> int:
    """Views of each modality that a run draws per step."""
    method = METHODS[settings.method]
    if settings.intra or method.views_without_intra is None:
        return method.views
    return method.views_without_intra


def dims_common(settings: PretrainSettings, dims: int) -> int:
    """Common dimensions of an embedding of `dims`, which without a projector is not `dim` wide."""
    return common_of(settings.share_common, dims)


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


def explain_settings_type(explainer: str) -> type[ExplainSettings[Any]]:
    """The model of what an explainer reads, with its own recipe."""
    generic: Any = ExplainSettings  # for mypy, whose types are not made at run time
    model: type[ExplainSettings[Any]] = generic[EXPLAINERS[explainer].recipe]
    return model


def apply_variant(settings: PretrainSettings, variant: str) -> PretrainSettings:
    """The settings of a variant such as `dim-512_common-75`.

    Parts: `dim-<K>` (keeps the share of common dimensions), `hidden-<width>` (of the projector's
    hidden layers; without it K), `common-<percent>` (100: without decoupling), `no-intra`,
    `no-projector` (the loss acts on the features), `official` (the released code's weighting,
    shared projector, settings of the baselines and, with LARS, what its lost gradient comes to, see
    `Method.lost_gradient`), `data-<dataset>`, `from-imagenet` (the
    backbones start from ImageNet weights), `large` (`arch_large`, if any).
    Files of weights that the run does not start from are left out of the result, and widths are
    divided by `dim_divisor`, which is then 1.

    Raises:
        DecurError: a part that is none of these, or no file of the weights to start from.
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
                f"variant '{variant}': cannot read '{part}'; known are {VARIANT_PARTS}"
            )
    start = starting_weights(settings, settings.method, variant)
    if start is not None:
        changes[start.kind] = _needed_file(start, settings, variant)
    changes["dim_common"] = common_of(share, changes.get("dim", settings.dim))
    return settings.model_copy(update=changes).divided()


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


@dataclass(frozen=True)
class StartingWeights:
    """The file of weights that a run starts from; `key` of the scenario's `pretrain` gives it."""

    key: Literal["imagenet", "imagenet_large", "released"]
    file: str | None

    @property
    def kind(self) -> str:
        """The key in the run's own settings, which have no large backbone beside theirs."""
        return self.key.removesuffix("_large")

    @property
    def is_published(self) -> bool:
        """Whether it is given by the name under which the authors published it."""
        return self.key == "released" and self.file in BY_NAME


def starting_weights(pretrain: Pretrain, method: str, variant: str) -> StartingWeights | None:
    """The file of weights that a run starts from, or is; None where it starts at random."""
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
            f"'{variant}' starts from a file of weights, and there is none; give `{start.key}`"
        )
    return start.file


def _is_count(text: str) -> bool:
    return re.fullmatch("[1-9][0-9]*", text) is not None


def _is_percent(text: str) -> bool:
    return re.fullmatch(r"[0-9]*\.?[0-9]+", text) is not None and float(text) <= 100


def pretrain_settings(config: Config, run: Run) -> PretrainSettings:
    """What the pretraining job of a run reads: scenario, method, variant and seed resolved.

    Raises:
        DecurError: the config has no such scenario or method.
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
    """What the transfer job of a run reads, for the datasets of `cells`."""
    pretrain = pretrain_settings(config, run)
    for cell in cells:
        check_recipe(config, cell)
    recipes = {c.dataset: config.transfer[c.dataset] for c in cells if c.dataset in config.transfer}
    return TransferSettings(run=str(run), pretrain=pretrain, recipes=recipes)


def check_recipe(config: Config, cell: Cell) -> None:
    """Check that a config says how to evaluate a cell; without labels no recipe is needed.

    Raises:
        DecurError: it does not.
    """
    protocol, key = PROTOCOLS[cell.protocol], f"transfer.{cell.dataset}"
    if not protocol.labelled:
        if config.datasets[cell.dataset].source != "scenes":
            raise DecurError(
                f"cell '{cell}': '{cell.protocol}' predicts the known factors of scenes, and the "
                f"source of datasets.{cell.dataset} is no scenes; choose another protocol"
            )
        return
    if cell.dataset not in config.transfer:
        raise DecurError(f"cell '{cell}': no recipe under {key}; add one")
    if protocol.recipe and getattr(config.transfer[cell.dataset], protocol.recipe) is None:
        raise DecurError(f"cell '{cell}': no recipe under {key}.{protocol.recipe}; add one")


def explain_settings(config: Config, run: Run, explainer: str) -> ExplainSettings[Any]:
    """What the job of an explainer reads for a run."""
    recipe = getattr(config.explain, explainer)
    pretrain = pretrain_settings(config, run)
    return explain_settings_type(explainer)(run=str(run), pretrain=pretrain, recipe=recipe)
