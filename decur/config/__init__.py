"""The typed configuration: one strict model, from which the JSON schema is made.

Defaults are the paper's (section 4 and appendix B). An unknown key or name is an error, and so is
an impossible value; each is named in one line. A stage receives its own resolved settings and
nothing else. Those of them that decide results (`deciding`) make a job run again when they change.
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
