"""Read and check the configuration of a scale from YAML."""

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
            f"the folder {folder!r} is empty, begins with '-', or contains braces or a line break, "
            "which Snakemake cannot read; choose another folder"
        )
    return folder


class Config(Strict):
    """The whole configuration of one scale."""

    scale: Name = Field(description="name of the scale, and of its folder in `results`")
    results: Annotated[str, AfterValidator(_results_folder)] = Field(
        "results",
        description="folder of all artifacts; braces are allowed only in variables, because "
        "Snakemake would read them as a pattern",
        json_schema_extra={"pattern": r"^(\$\{\w+\}|[^-{}\n])(\$\{\w+\}|[^{}\n])*$"},
    )
    methods: tuple[MethodName, ...] = Field(description="methods to pretrain and compare")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        description="random seeds, with one run per seed"
    )
    experiments: tuple[str, ...] = Field(
        (),
        description="names of experiments in experiments.yaml; if this and `own_experiments` are "
        "empty, each method is pretrained in each scenario",
    )
    own_experiments: dict[str, dict[str, Any]] = Field(
        {},
        exclude_if=lambda declared: not declared,
        description="further experiments by name, declared as in experiments.yaml",
    )
    scenarios: dict[Scenario, ScenarioSettings] = Field(
        description="scenarios by name: the modalities that are pretrained together, and how"
    )
    datasets: dict[Name, DatasetSettings] = Field(
        description="datasets by name: the source of the data, and how samples are stored"
    )
    transfer: dict[Name, Transfer] = Field(
        {}, description="settings of the transfer evaluation on each dataset, by dataset"
    )
    transfer_together: bool = Field(
        False,
        description="evaluate all transfer cells of a run in one process (for small networks)",
    )
    explain: Explain = Field(  # type: ignore[valid-type]
        Explain(), description="settings of the explainers, by name"
    )

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
        """Check that a dataset is declared, and that the given modalities are stored.

        Raises:
            ValueError: they are not; the message names `key`.
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
    """Check the name of a dataset and the modalities that it stores."""
    if settings.folders is None:
        _check(key, name, DATASETS, "known dataset", " (your own images need `source: folders`)")
        known = tuple(DATASETS[name].modalities)
    elif name in DATASETS:
        raise ValueError(f"{key}: is a known dataset; choose another name for your folders")
    else:
        known = tuple(settings.folders.modalities)
    for modality in settings.modalities or ():
        _check(f"{key}.modalities", modality, known, "modality", f" in {name}")


def _check_task(key: str, name: str, settings: DatasetSettings, task: str) -> None:
    """Check that the labels of a dataset fit a task: segmentation needs masks, and vice versa."""
    own = settings.folders
    masks = DATASETS[name].masks if own is None else own.stores_masks
    if own is not None and own.masks is None and own.labels is None:
        raise ValueError(f"{key}: {name} has no labels; add `masks` or `labels` to its folders")
    possible = "segmentation" if masks else "classification"
    if task != possible:
        labels = "masks" if masks else "classes of whole images"
        raise ValueError(f"{key}: {name} is labelled with {labels}; set the task to '{possible}'")


def stored_modalities(name: str, settings: DatasetSettings) -> tuple[str, ...]:
    """Return the names of the modalities in the shards of a dataset."""
    if settings.modalities is not None:
        return settings.modalities
    if settings.folders is not None:
        return tuple(settings.folders.modalities)
    return DATASETS[name].stored


def splits(name: str, settings: DatasetSettings) -> tuple[str, ...]:
    """Return the names of the splits that a dataset may have."""
    if settings.folders is not None:
        return OWN_SPLITS
    known = DATASETS[name]
    return ("train", known.evaluation) if settings.source == "scenes" else known.splits


def parse_config(tree: Mapping[str, Any], where: str = "config") -> Config:
    """Validate a configuration tree.

    Raises:
        DecurError: the tree is not valid; one line names `where`, the first wrong key and why.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise DecurError(first_problem(error, where, tree)) from None


def load_config(source: Path | str) -> Config:
    """Read and validate a configuration: a YAML file, or the text of a JSON object."""
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return parse_config(parse_yaml(source, "config"))
    tree = read_yaml(source)
    if not isinstance(tree, dict):
        raise DecurError(f"{source}: expected a mapping of keys, found {type(tree).__name__}")
    return parse_config(tree, str(source))
