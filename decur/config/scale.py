"""The whole configuration of a scale, read from YAML."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from decur.cluster.user_paths import expand
from decur.config.data import OWN_SPLITS, DatasetSettings
from decur.config.datasets import DATASETS
from decur.config.evaluation import Transfer
from decur.config.explainers import Explain
from decur.config.methods import MethodName
from decur.config.pretraining import Scenario, ScenarioSettings
from decur.config.strict import Name, Strict, check_known, first_problem
from decur.config.yaml_file import parse_yaml, read_yaml
from decur.errors import DecurError


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
    methods: tuple[MethodName, ...]
    seeds: tuple[Annotated[int, Field(ge=0)], ...]
    experiments: tuple[str, ...] = Field(
        (),
        description="tables and figures of experiments.yaml; without these and `own_experiments`, "
        "each method is pretrained in each scenario",
    )
    own_experiments: dict[str, dict[str, Any]] = Field(
        {},
        exclude_if=lambda declared: not declared,
        description="more tables and figures, declared as in experiments.yaml",
    )
    scenarios: dict[Scenario, ScenarioSettings]
    datasets: dict[Name, DatasetSettings]
    transfer: dict[Name, Transfer] = Field(
        {}, description="how the datasets that experiments evaluate on are transferred to"
    )
    transfer_together: bool = Field(
        False, description="evaluate a backbone's transfer runs in one process (small nets)"
    )
    explain: Explain = Explain()  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _datasets_exist(self) -> Self:
        for name, settings in self.datasets.items():
            _check_dataset(f"datasets.{name}", name, settings)
        for name, scenario in self.scenarios.items():
            key = f"scenarios.{name}.pretrain.dataset"
            self.check_dataset(key, scenario.pretrain.dataset, scenario.modalities)
        for name, transfer in self.transfer.items():
            self.check_dataset(f"transfer.{name}", name)
            _check_task(f"transfer.{name}.task", name, self.datasets[name], transfer.task)
        return self

    @model_validator(mode="after")
    def _splits_exist(self) -> Self:
        for name, scenario in self.scenarios.items():
            key, pretrain = f"scenarios.{name}.pretrain", scenario.pretrain
            known = splits(pretrain.dataset, self.datasets[pretrain.dataset])
            named = {f"{key}.splits": pretrain.splits}
            if pretrain.knn is not None:
                named |= {f"{key}.knn.{s}": (getattr(pretrain.knn, s),) for s in ("train", "test")}
            for where, given in named.items():
                for split in given:
                    _check(where, split, known, f"split of {pretrain.dataset}")
        return self

    def check_dataset(self, key: str, name: str, modalities: Iterable[str] = ()) -> None:
        """Check that a dataset is declared, and that these of its modalities are stored.

        Raises:
            ValueError: naming `key`.
        """
        _check(key, name, self.datasets, "dataset", " under 'datasets'")
        for modality in modalities:
            stored = stored_modalities(name, self.datasets[name])
            _check(key, modality, stored, "modality", f" in the stored samples of {name}")


def _check(key: str, name: str, known: Iterable[str], what: str, where: str = "") -> None:
    try:
        check_known(name, known, what, where)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _check_dataset(key: str, name: str, settings: DatasetSettings) -> None:
    """Check a dataset's name and modalities, of which stored samples are made."""
    if settings.folders is None:
        _check(key, name, DATASETS, "known dataset", " (your own images need `source: folders`)")
        known = tuple(DATASETS[name].modalities)
    elif name in DATASETS:
        raise ValueError(f"{key}: is a known dataset; give your folders another name")
    else:
        known = tuple(settings.folders.modalities)
    for modality in settings.modalities or ():
        _check(f"{key}.modalities", modality, known, "modality", f" in {name}")


def _check_task(key: str, name: str, settings: DatasetSettings, task: str) -> None:
    """Check that a dataset has labels for a task: masks for segmentation, else none."""
    own = settings.folders
    masks = DATASETS[name].masks if own is None else own.stores_masks
    if own is not None and own.masks is None and own.labels is None:
        raise ValueError(f"{key}: {name} has no labels; give its folders `masks` or `labels`")
    possible = "segmentation" if masks else "classification"
    if task != possible:
        labels = "masks" if masks else "classes of whole images"
        raise ValueError(f"{key}: {name} is labelled by {labels}; the task is '{possible}'")


def stored_modalities(name: str, settings: DatasetSettings) -> tuple[str, ...]:
    """Names of the modalities in a dataset's shards."""
    if settings.modalities is not None:
        return settings.modalities
    if settings.folders is not None:
        return tuple(settings.folders.modalities)
    return DATASETS[name].stored


def splits(name: str, settings: DatasetSettings) -> tuple[str, ...]:
    """Names that a dataset's splits may have."""
    if settings.folders is not None:
        return OWN_SPLITS
    known = DATASETS[name]
    return ("train", known.evaluation) if settings.source == "scenes" else known.splits


def parse_config(tree: Mapping[str, Any], where: str = "config") -> Config:
    """Validate a configuration tree.

    Raises:
        DecurError: naming `where`, the first wrong key and the reason, in one line.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise DecurError(first_problem(error, where, tree)) from None


def load_config(source: Path | str) -> Config:
    """Read and validate a YAML file, or the text of a JSON object."""
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return parse_config(parse_yaml(source, "config"))
    tree = read_yaml(source)
    if not isinstance(tree, dict):
        raise DecurError(f"{source}: expected a mapping of keys, found {type(tree).__name__}")
    return parse_config(tree, str(source))
