"""Experiments: the tables and figures of the paper as data, and the runs that they need.

An experiment has rows (a method and variant) and panels (a dataset, and what is measured on it).
Each combination of row and panel is evaluated in cells. Experiments share runs: a run that two of
them need exists only once.
"""

from decur.config.experiments.declared import (
    ALL,
    KINDS,
    METRIC_NAMES,
    SCENARIO_NAMES,
    Claim,
    Column,
    Comparison,
    Experiment,
    Kind,
    Panel,
    Row,
    column_parts,
    comparisons,
    load_experiments,
    parts,
    scenario_name,
)
from decur.config.experiments.selection import (
    Entry,
    check_cells,
    chosen_experiments,
    entries,
    explain_runs,
    pretrain_runs,
    share_runs,
    transfer_runs,
)

__all__ = [
    "ALL",
    "KINDS",
    "METRIC_NAMES",
    "SCENARIO_NAMES",
    "Claim",
    "Column",
    "Comparison",
    "Entry",
    "Experiment",
    "Kind",
    "Panel",
    "Row",
    "check_cells",
    "chosen_experiments",
    "column_parts",
    "comparisons",
    "entries",
    "explain_runs",
    "load_experiments",
    "parts",
    "pretrain_runs",
    "scenario_name",
    "share_runs",
    "transfer_runs",
]
