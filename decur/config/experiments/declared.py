"""What an experiment declares, and the reading of declarations from YAML."""

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
"""Panel, labels, protocol and metric: a column of a table, or a subplot of a curve."""

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
"""Percent of common dimensions without decoupling."""

SCENARIO_NAMES = {
    "sar-optical": "SAR-optical",
    "rgb-dem": "RGB-DEM",
    "rgb-depth": "RGB-depth",
    "rgb-depth-mit": "RGB-depth",
}

KINDS = ("table", "curve", "gallery", "claims", *EXPLAINERS)
"""The kinds of experiments; `decur.tables.experiment_kinds` maps each to its sources and page."""


def _is_kind(name: str) -> str:
    return check_known(name, KINDS, "kind of experiment")


Kind = Annotated[str, AfterValidator(_is_kind)]


Percent = Annotated[float, Field(gt=0, le=100)]


class Row(Strict):
    """A line of a table, or a point of a curve (`x`); without a method only the paper's value.

    `scenario`, `modalities` and `protocol` override the panel's, `panels` and `scales` limit where
    the row appears. A mapping under `protocol` overrides those protocols of the panel that it has.
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
        """The protocol that measures the row in a column of a panel's protocol."""
        if isinstance(self.protocol, dict):
            return self.protocol.get(column, column)
        return self.protocol or column


class Panel(Strict):
    """A group of columns: one dataset and choice of modalities, by labels, protocol and metric.

    `paper` is the table whose numbers stand beside ours, `paper_metric` the metric that these are
    in, where it is not ours: it stands there too, and the paper's number is compared with it.
    `split` is one of the dataset's unused splits, to be shown in place of that which is reported.
    `missing` is which of the modalities is absent in evaluation, and what replaces it: `sar/mean`.
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
            raise ValueError(f"missing: '{self.missing}' is not of one of several {present}")
        if self.split and self.missing:
            raise ValueError("split: only the split that is reported is evaluated with one missing")
        if self.paper_metric and len(self.metrics) != 1:
            raise ValueError("paper_metric: stands beside one metric alone")
        for metric in filter(None, (*self.metrics, self.paper_metric)):
            check_known(metric, METRIC_NAMES, "metric")
        return self


class Comparison(Strict):
    """Cells of the experiment `of`: in each, the row `higher` has more than any row of `lower`.

    Rows and panels are named by their labels; what is not given takes in all panels, labels,
    protocols or metrics. Of alignment and saliency what is compared is the mean; DeCUR's
    dimensions are `DeCUR, common` and `DeCUR, unique`.
    """

    of: str
    higher: str
    lower: tuple[str, ...]
    panels: tuple[str, ...] | None = None
    labels: tuple[float, ...] | None = None
    protocols: tuple[ProtocolName, ...] | None = None
    metrics: tuple[str, ...] | None = None


class Claim(Strict):
    """What is said of the methods, in our words; it holds if all its comparisons do.

    `section` is that of the paper; none: it is ours. Without comparisons nothing measures it.
    """

    text: str
    section: str | None = None
    comparisons: tuple[Comparison, ...] = ()


class Experiment(Strict):
    """One table, curve, gallery of predictions, list of claims, or what an explainer found.

    `seeds` limits how many of the scale's it uses; `stage` is where the report shows it.
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
        exclude=True,  # they are recorded as themselves
        description="the experiments of the scale that the claims compare cells of, filled in by "
        "`selection.chosen_experiments`",
    )

    @property
    def explainer(self) -> Explainer | None:
        """The explainer whose results it shows; None for another kind."""
        return EXPLAINERS.get(self.kind)

    @property
    def needs_transfers(self) -> bool:
        """Whether its cells are transfers; those of most explainers are not."""
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
    """Read `experiments.yaml`.

    Raises:
        DecurError: naming the file, the experiment and the first wrong key.
    """
    trees = read_yaml(path)
    if not isinstance(trees, dict):
        raise DecurError(f"{path}: expected experiments by name, found {type(trees).__name__}")
    return parse_experiments(trees, str(path), {})


def parse_experiments(
    trees: Mapping[str, Any], where: str, known: Mapping[str, Experiment]
) -> dict[str, Experiment]:
    """The experiments of a tree, whose claims may be about those known before.

    Raises:
        DecurError: naming `where`, the experiment and the first wrong key.
    """
    experiments = {}
    for name, tree in trees.items():
        if name.startswith("."):
            continue
        if not re.fullmatch("[a-z0-9][a-z0-9-]*", name):
            raise DecurError(f"{where}: '{name}': a name is of a-z, 0-9 and -")
        if name in known:
            raise DecurError(f"{where}: '{name}' is declared already; choose another name")
        try:
            experiments[name] = Experiment.model_validate(tree)
        except ValidationError as error:
            raise DecurError(first_problem(error, f"{where}: {name}", tree)) from None
    for name, experiment in experiments.items():
        for claim, comparison in comparisons(experiment):
            _check_names(f"{where}: {name}: {claim}", comparison, {**known, **experiments})
    return experiments


def parts(experiment: Experiment, row: Row) -> dict[str, str]:
    """What a row has to compare, by its label: a part of what was explained, else ''."""
    if experiment.explainer is None or experiment.explainer.score is None:
        return {row.label: ""}
    if row.method is None or not METHODS[row.method].has_unique:
        return {row.label: "all"}
    return {f"{row.label}, {part}": part for part in ("common", "unique")}


def comparisons(experiment: Experiment) -> list[tuple[str, Comparison]]:
    """Every comparison of an experiment, with the name of its claim."""
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
    """Panel, labels, protocol and metric of a column, as they are read."""
    panel, labels, protocol, metric = column
    by_labels = [f"{labels:g} % labels", protocol] if PROTOCOLS[protocol].labelled else []
    return [panel, *by_labels, METRIC_NAMES.get(metric, metric)]


def scenario_name(scenario: str) -> str:
    """A scenario as the paper writes it."""
    return SCENARIO_NAMES.get(scenario, scenario)
