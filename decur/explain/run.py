"""Run one explainer on one pretrained run and write a CSV file and its record.

`decur.config.explainers.EXPLAINERS` lists the explainers. Each is a module with

* `explain(subject, recipe) -> Explanation`: its results, as a table and a few facts;
* `PACKAGES`: the libraries that affect its results, in addition to those of all explainers.
"""

import importlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from decur.artifacts import records
from decur.artifacts.ownership import HIDDEN, check_listed
from decur.artifacts.provenance import fingerprint, provenance
from decur.artifacts.timing import JobTimer
from decur.config import EXPLAINERS, ExplainSettings, deciding
from decur.explain.subject import load_subject
from decur.training.checkpoint import CHECKPOINTS, identity_of
from decur.training.resume import resumable

PACKAGES = ("numpy", "pandas", "torch", "torchvision", "timm")


@dataclass(frozen=True)
class Explanation:
    """The results of an explainer: a table, and facts about the whole table for the record."""

    frame: pd.DataFrame
    facts: dict[str, Any] = field(default_factory=dict)


def explain(
    name: str,
    settings: ExplainSettings[Any],
    weights: Path,
    shards: Path,
    out: Path,
    *,
    device: str = "cpu",
) -> None:
    """Write the results of the explainer `name` to the CSV file `out`.

    A JSON file of the same name beside it holds the facts and the provenance. The job continues
    from the results that an earlier job saved in a hidden folder beside `out`.

    Raises:
        DecurError: weights, shards and settings do not fit, there are too few samples, or `out` or
            the JSON exists and was not written by this package.
        StoppedError: the job was asked to stop, and has saved its results.
    """
    job = JobTimer(device)
    record = out.with_suffix(".json")
    check_listed(record, [out])
    explainer = importlib.import_module(EXPLAINERS[name].module)
    subject, pretrained = load_subject(settings, weights, shards, device)
    dataset = settings.pretrain.dataset
    inputs = {dataset: subject.shards.card.checksum, weights.name: fingerprint(weights)}
    identity = identity_of([name, deciding(settings)], inputs)
    with resumable(out.parent / HIDDEN / f"{out.stem}-{CHECKPOINTS}", identity, job) as journal:
        subject = replace(subject, journal=journal)
        explanation: Explanation = explainer.explain(subject, settings.recipe)
        origin = provenance(settings, inputs, (*PACKAGES, *explainer.PACKAGES), pretrained)
        table = explanation.frame.to_csv(index=False, float_format="%.6g")
        records.ExplanationRecord(
            facts=explanation.facts, provenance=origin, job=job.record()
        ).write_files(record, {out: table.encode()})
