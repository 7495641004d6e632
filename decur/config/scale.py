"""The whole configuration of a scale, read from YAML."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from decur.config.basis import (
    Name,
    Strict,
    first_problem,
)
from decur.config.data import DatasetSettings
from decur.config.evaluation import Explain, Transfer
from decur.config.pretraining import Method, Scenario, ScenarioSettings
from decur.errors import DecurError
from decur.user_paths import expand


def _results_folder(text: str) -> str:
    folder = expand(text)
    if not re.fullmatch(r"[^-{}\n][^{}\n]*", folder):
        raise DecurError(
            f"the folder {folder!r} begins with '-', is empty, or has braces or a line break, "
            "which Snakemake cannot read; choose another"
        )
    return folder


class Config(Strict):
    """The whole configuration of one scale."""

    scale: Name
    results: Annotated[str, AfterValidator(_results_folder)] = Field(
        "results",
        description="folder of all products; Snakemake would read braces as a pattern, but for "
        "those of a variable",
        json_schema_extra={"pattern": r"^(\$\{\w+\}|[^-{}\n])(\$\{\w+\}|[^{}\n])*$"},
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
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DecurError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise DecurError(f"{path}: expected a mapping of keys, found {type(tree).__name__}")
    return parse_config(tree, str(path))
