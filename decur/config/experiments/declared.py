"""Declare experiments (tables, figures, lists of claims) and read their declarations from YAML."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from decur.config.explainers import EXPLAINERS, Explainer
from decur.config.methods import METHODS, MethodName
from decur.config.pretraining import Scenario
from decur.config.protocols import PROTOCOLS, ProtocolName
from decur.config.strict import Count, Strict, check_known, did_you_mean, first_problem
from decur.config.yaml_file import read_yaml
from decur.errors import DecurError

Column = tuple[str, float, str, str]
"""A column of a table or a subplot of a curve: panel, labels in percent, protocol and metric."""

METRIC_NAMES = {
    "map_micro": "mAP (micro)",
    "map_macro": "mAP (macro)",
    "map_micro_per_batch": "mAP (micro, mean of batches)",
    "miou": "mIoU",
    "miou_per_batch": "mIoU (mean of batches)",
    "accuracy": "pixel accuracy",
    "mean_accuracy": "mean class accuracy",
    "dominant_class": "class of most pixels",
    "common": "common factor",
    "unique1": "unique factor",
    "unique2": "unique factor",
    **{name: known.score.title for name, known in EXPLAINERS.items() if known.score},
}
ALL = 100
"""Share of common dimensions without decoupling, in percent."""

SCENARIO_NAMES = {
    "sar-optical": "SAR-optical",
    "rgb-dem": "RGB-DEM",
    "rgb-depth": "RGB-depth",
    "rgb-depth-mit": "RGB-depth",
}

KINDS = ("table", "curve", "gallery", "claims", *EXPLAINERS)
"""Kinds of experiments; `decur.tables.experiment_kinds` maps each kind to its sources and page."""


def _is_kind(name: str) -> str:
    return check_known(name, KINDS, "kind of experiment")


Kind = Annotated[str, AfterValidator(_is_kind)]


Percent = Annotated[float, Field(gt=0, le=100)]


class Row(Strict):
    """A line of a table, or a point of a curve at `x`.

    A row without a method shows only the value of the paper. `scenario`, `modalities` and
    `protocol` override those of the panel. `panels` and `scales` limit where the row appears. If
    `protocol` is a mapping, it overrides only the protocols of the panel that it contains.
    """

    label: str
    method: MethodName | None = None
    variant: str = "default"
    scenario: Scenario | None = None
    modalities: str | None = None
    protocol: ProtocolName | dict[ProtocolName, ProtocolName] | None = None
    x: float | None = None
    paper: str | None = None
    panels: tuple[str, ...] | None = None
    scales: tuple[str, ...] | None = None

    def protocol_for(self, column: str) -> str:
        """Return the protocol of this row in a column whose panel has the protocol `column`."""
        if isinstance(self.protocol, dict):
            return self.protocol.get(column, column)
        return self.protocol or column


class Panel(Strict):
    """A group of columns: one dataset and its modalities, by labels, protocol and metric.

    `paper` is the table of the paper whose numbers are shown beside ours. `paper_metric` is the
    metric of these numbers, if it is not ours: it is shown too, and compared with the paper.
    `split` is an unused split of the dataset, shown instead of the reported split. `missing` is a
    modality that is absent in the evaluation, and its replacement, such as `sar/mean`.
    """

    label: str
    scenario: Scenario
    dataset: str
    modalities: str
    protocols: Annotated[tuple[ProtocolName, ...], Field(min_length=1)]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)]
    labels: Annotated[tuple[Percent, ...], Field(min_length=1)] = (100,)
    paper: str | None = None
    paper_metric: str | None = None
    split: str | None = None
    missing: str | None = Field(None, pattern="^[a-z0-9-]+/(zeros|mean)$")

    @model_validator(mode="after")
    def _missing_is_one_of_several(self) -> Self:
        present = self.modalities.split("+")
        if self.missing and (len(present) < 2 or self.missing.split("/")[0] not in present):
            raise ValueError(
                f"missing: found '{self.missing}', expected one of several modalities; the panel "
                f"has {present}"
            )
        if self.split and self.missing:
            raise ValueError("split: cannot be combined with 'missing'; remove one of the two")
        if self.paper_metric and len(self.metrics) != 1:
            raise ValueError("paper_metric: needs exactly one metric; remove it or other metrics")
        for metric in filter(None, (*self.metrics, self.paper_metric)):
            check_known(metric, METRIC_NAMES, "metric")
        return self


class Comparison(Strict):
    """A comparison in the experiment `of`: the row `higher` exceeds each row of `lower`.

    It must hold in all selected columns. Rows and panels are named by their labels. A filter
    (`panels`, `labels`, `protocols`, `metrics`) that is None selects all. For alignment and
    saliency, means are compared, and the rows of DeCUR are `DeCUR, common` and `DeCUR, unique`.
    """

    of: str
    higher: str
    lower: tuple[str, ...]
    panels: tuple[str, ...] | None = None
    labels: tuple[float, ...] | None = None
    protocols: tuple[ProtocolName, ...] | None = None
    metrics: tuple[str, ...] | None = None


class Claim(Strict):
    """A statement about the methods, in our words; it holds if all its comparisons hold.

    `section` is the section of the paper, or None if the claim is ours. A claim without comparisons
    is not tested.
    """

    text: str
    section: str | None = None
    comparisons: tuple[Comparison, ...] = ()


class Experiment(Strict):
    """A table, a curve, a gallery of predictions, a list of claims or the results of an explainer.

    `seeds` is the maximum number of the scale's seeds that it uses. `stage` is the part of the
    report that shows it.
    """

    title: str
    caption: str
    stage: Literal["transfer", "ablations", "explain", "claims"] = "transfer"
    kind: Kind = "table"
    rows: tuple[Row, ...] = ()
    panels: tuple[Panel, ...] = ()
    claims: dict[str, Claim] = Field({})
    x_label: str = ""
    seeds: Count | None = None
    about: dict[str, "Experiment"] = Field(
        {},
        exclude=True,  # these experiments have their own records
        description="experiments of the scale whose cells the claims compare; set by "
        "`selection.chosen_experiments`",
    )

    @property
    def explainer(self) -> Explainer | None:
        """Return the explainer whose results the experiment shows; None for other kinds."""
        return EXPLAINERS.get(self.kind)

    @property
    def needs_transfers(self) -> bool:
        """Return whether its cells are transfer evaluations; those of most explainers are not."""
        return self.explainer is None or self.explainer.on_grid

    @model_validator(mode="after")
    def _has_what_its_kind_shows(self) -> Self:
        given = {name for name in ("rows", "panels", "claims") if getattr(self, name)}
        wanted = {"claims"} if self.kind == "claims" else {"rows", "panels"}
        if given != wanted:
            raise ValueError(f"a {self.kind} has {' and '.join(sorted(wanted))}, and no others")
        for row in self.rows:
            for label in row.panels or ():
                known = [panel.label for panel in self.panels]
                check_known(label, known, "panel", f" for the row '{row.label}'")
        return self


def load_experiments(path: Path | str) -> dict[str, Experiment]:
    """Read a file of experiments, such as `experiments.yaml`.

    Raises:
        DecurError: a declaration is wrong; the message names file, experiment and first wrong key.
    """
    trees = read_yaml(path)
    if not isinstance(trees, dict):
        raise DecurError(f"{path}: expected experiments by name, found {type(trees).__name__}")
    return parse_experiments(trees, str(path), {})


def parse_experiments(
    trees: Mapping[str, Any], where: str, known: Mapping[str, Experiment]
) -> dict[str, Experiment]:
    """Parse a tree of experiments; their claims may refer to the experiments in `known`.

    Raises:
        DecurError: a declaration is wrong; the message names `where`, the experiment and first
            wrong key.
    """
    experiments = {}
    for name, tree in trees.items():
        if name.startswith("."):
            continue
        if not re.fullmatch("[a-z0-9][a-z0-9-]*", name):
            raise DecurError(f"{where}: '{name}': a name consists of a-z, 0-9 and -; rename it")
        if name in known:
            raise DecurError(f"{where}: '{name}' is already declared; choose another name")
        try:
            experiments[name] = Experiment.model_validate(tree)
        except ValidationError as error:
            raise DecurError(first_problem(error, f"{where}: {name}", tree)) from None
    for name, experiment in experiments.items():
        for claim, comparison in comparisons(experiment):
            _check_names(f"{where}: {name}: {claim}", comparison, {**known, **experiments})
    return experiments


def parts(experiment: Experiment, row: Row) -> dict[str, str]:
    """Return the labels of a row in comparisons, each with its part of the embedding or ''."""
    if experiment.explainer is None or experiment.explainer.score is None:
        return {row.label: ""}
    if row.method is None or not METHODS[row.method].has_unique:
        return {row.label: "all"}
    return {f"{row.label}, {part}": part for part in ("common", "unique")}


def comparisons(experiment: Experiment) -> list[tuple[str, Comparison]]:
    """Return all comparisons of an experiment, each with the name of its claim."""
    return [(name, c) for name, claim in experiment.claims.items() for c in claim.comparisons]


def _check_names(place: str, comparison: Comparison, experiments: dict[str, Experiment]) -> None:
    of = experiments.get(comparison.of)
    if of is None:
        hint = did_you_mean(comparison.of, experiments)
        raise DecurError(f"{place}: there is no experiment '{comparison.of}'{hint}")
    for kind, named, known in (
        ("row", (comparison.higher, *comparison.lower), {p for r in of.rows for p in parts(of, r)}),
        ("panel", comparison.panels or (), {panel.label for panel in of.panels}),
    ):
        for label in named:
            if label not in known:
                hint = did_you_mean(label, known)
                raise DecurError(f"{place}: {comparison.of} has no {kind} '{label}'{hint}")


def column_parts(column: Column) -> list[str]:
    """Return the panel, labels, protocol and metric of a column as texts for readers."""
    panel, labels, protocol, metric = column
    by_labels = [f"{labels:g} % labels", protocol] if PROTOCOLS[protocol].labelled else []
    return [panel, *by_labels, METRIC_NAMES.get(metric, metric)]


def scenario_name(scenario: str) -> str:
    """Return the name of a scenario as the paper writes it."""
    return SCENARIO_NAMES.get(scenario, scenario)
