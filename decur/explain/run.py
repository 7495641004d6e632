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

from decur.config import ExplainSettings
from decur.explain.subject import load_subject
from decur.job import Job
from decur.provenance import file_checksum, provenance, write_json

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
        DecurError: weights, shards and settings do not fit, or there are too few samples.
    """
    job = Job(device)
    explainer = importlib.import_module(f"decur.explain.{kind}")
    subject, metadata = load_subject(settings, weights, shards, device)
    found = explainer.explain(subject, settings.recipe)
    out.parent.mkdir(parents=True, exist_ok=True)
    found.frame.to_csv(out, index=False, float_format="%.6g")
    dataset = settings.pretrain.dataset
    inputs = {dataset: subject.shards.card["checksum"], weights.name: file_checksum(weights)}
    origin = provenance(settings, inputs, (*PACKAGES, *explainer.PACKAGES))
    origin["pretrained"] = metadata.get("provenance", {})
    record = {"files": {out.name: file_checksum(out)}, "facts": found.facts, "provenance": origin}
    write_json(out.with_suffix(".json"), {**record, "job": job.record()})
