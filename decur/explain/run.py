"""One explainer on one pretrained run: weights and shards in, a CSV and its record out.

Every explainer is a module of this package with

* `explain(subject, recipe) -> Found`: what it finds, as a table and a few facts;
* `PACKAGES`: the libraries, beside those of all, that decide the result.
"""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from decur.artifacts.ownership import check_listed
from decur.artifacts.provenance import fingerprint, provenance
from decur.artifacts.records import Explanation
from decur.artifacts.timing import JobTimer
from decur.config import ExplainSettings
from decur.explain.subject import load_subject

PACKAGES = ("numpy", "pandas", "torch", "torchvision", "timm")


@dataclass(frozen=True)
class Found:
    """What an explainer says: a table, and facts of the whole of it for the record."""

    frame: pd.DataFrame
    facts: dict[str, Any] = field(default_factory=dict)


def explain(
    kind: str,
    settings: ExplainSettings[Any],
    weights: Path,
    shards: Path,
    out: Path,
    *,
    device: str = "cpu",
) -> None:
    """Write what the explainer `kind` finds into the CSV file `out`.

    Where that is from, and the explainer's facts, are in a JSON of the same name beside it.

    Raises:
        DecurError: weights, shards and settings do not fit, there are too few samples, or `out` or
            the JSON exists and is not ours.
    """
    job = JobTimer(device)
    record = out.with_suffix(".json")
    check_listed(record, [out])
    explainer = importlib.import_module(f"decur.explain.{kind}")
    subject, pretrained = load_subject(settings, weights, shards, device)
    found = explainer.explain(subject, settings.recipe)
    dataset = settings.pretrain.dataset
    inputs = {dataset: subject.shards.card.checksum, weights.name: fingerprint(weights)}
    origin = provenance(settings, inputs, (*PACKAGES, *explainer.PACKAGES), pretrained)
    table = found.frame.to_csv(index=False, float_format="%.6g")
    explanation = Explanation(facts=found.facts, provenance=origin, job=job.record())
    explanation.write_files(record, {out: table.encode()})
