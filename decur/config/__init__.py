"""The typed configuration: strict models, from which the JSON schema is generated.

Defaults are those of the paper (section 4 and appendix B). Unknown keys, unknown names and invalid
values are errors, each reported in one line. A stage receives only its own resolved settings. If a
setting that affects results changes (see `deciding`), its job runs again.
"""

from decur.config.data import (
    Align,
    DatasetSettings,
    FolderSettings,
    FoldersSettings,
    Piece,
    ScenesSettings,
)
from decur.config.evaluation import Cmx, Recipe, Sliding, Transfer
from decur.config.explainers import EXPLAINERS, Explain
from decur.config.pretraining import Augment, KnnSettings, Scenario, ScenarioSettings
from decur.config.runs import (
    ExplainSettings,
    PretrainSettings,
    TransferSettings,
    apply_variant,
    canonical_variant,
    check_recipe,
    count_views,
    dims_common,
    explain_settings,
    explain_settings_type,
    pretrain_settings,
    transfer_settings,
)
from decur.config.scale import Config, load_config, parse_config
from decur.config.strict import Strict, deciding, first_problem

__all__ = [
    "EXPLAINERS",
    "Align",
    "Augment",
    "Cmx",
    "Config",
    "DatasetSettings",
    "Explain",
    "ExplainSettings",
    "FolderSettings",
    "FoldersSettings",
    "KnnSettings",
    "Piece",
    "PretrainSettings",
    "Recipe",
    "Scenario",
    "ScenarioSettings",
    "ScenesSettings",
    "Sliding",
    "Strict",
    "Transfer",
    "TransferSettings",
    "apply_variant",
    "canonical_variant",
    "check_recipe",
    "count_views",
    "deciding",
    "dims_common",
    "explain_settings",
    "explain_settings_type",
    "first_problem",
    "load_config",
    "parse_config",
    "pretrain_settings",
    "transfer_settings",
]
