"""Look up the paper's numbers, with flags on suspect ones."""

import csv
import functools
import math
from importlib.resources import files
from pathlib import Path

from decur.config.experiments import Entry, scenario_name

PAPER_METRICS = {
    "map_micro": "mAP-micro",
    "map_micro_per_batch": "mAP-micro",
    "miou": "mIoU",
    "miou_per_batch": "mIoU",
    "accuracy": "overall acc",
}
"""The paper's names of metrics. Means over batches have the same names."""

PAPER_PROTOCOLS = {"linear": "linear", "fine-tune": "finetune"}


def paper_numbers() -> Path:
    """Return the path of the CSV file with the paper's numbers."""
    return Path(str(files("decur") / "data" / "paper_tables.csv"))


@functools.cache
def _rows() -> list[dict[str, str]]:
    with paper_numbers().open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@functools.cache
def _cells() -> dict[tuple[str, ...], tuple[float, str]]:
    """Index values and flags by table, method, labels, protocol and metric."""
    key = ("table", "method", "label_fraction", "protocol", "metric")
    rows = [row for row in _rows() if row["table"].startswith("Table")]
    return {tuple(row[k] for k in key): (float(row["value"]), row["flag"]) for row in rows}


def paper_key(entry: Entry) -> tuple[str, ...]:
    """Return the key of a cell's number in the paper: table, method, labels, protocol, metric."""
    return (
        entry.panel.paper or "",
        entry.row.paper or "",
        f"{entry.cell.labels:g}%",
        PAPER_PROTOCOLS.get(entry.protocol, ""),
        PAPER_METRICS.get(entry.paper_metric or entry.metric, ""),
    )


def paper_cell(entry: Entry) -> tuple[float, str]:
    """Look up the paper's number (NaN: none), and the flag if it is suspect."""
    value, flag = _cells().get(paper_key(entry), (math.nan, ""))
    return value, flag if flag.startswith("SUSPECT") else ""


def best_share(scenario: str) -> float | None:
    """Look up the paper's best percentage of common dimensions (§6, figures 3a and 6), or None."""
    for row in _rows():
        best = row["method"] == "best percentage of common dims"
        if best and row["scenario"] == scenario_name(scenario):
            return float(row["value"])
    return None


def band_saliency(scenario: str) -> dict[tuple[str, str, str], float]:
    """Read the raw spectral saliency (figure 5 right) by modality, part and band."""
    saliency = {}
    for row in _rows():
        if row["table"].startswith("Figure 5 right") and row["scenario"] == scenario:
            part = row["method"].removeprefix("IG saliency ").removesuffix(" dims")
            saliency["optical", part, row["modality"].removeprefix("S2 ")] = float(row["value"])
    return saliency
