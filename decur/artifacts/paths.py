"""Map artifacts to their paths below `results/<scale>`, and paths back to artifacts.

The identity of a pretraining run is `<scenario>/<method>/<variant>/seed-<n>`. A transfer cell adds
`<dataset>/<modalities>/<protocol>/labels-<percent>`. `Paths` takes identities as text, so that a
Snakemake wildcard (`"{run}"`) is kept unchanged. `identify` is the inverse.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from decur.errors import DecurError


@dataclass(frozen=True, order=True)
class Run:
    """Identity of a pretraining run; `variant` lists only the settings that are not defaults."""

    scenario: str
    method: str
    variant: str = "default"
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.scenario}/{self.method}/{self.variant}/seed-{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text that `str(run)` returns."""
        parts = text.strip("/").split("/")
        if len(parts) != 4 or not re.fullmatch("seed-[0-9]+", parts[3]):
            raise DecurError(
                f"run '{text}': expected <scenario>/<method>/<variant>/seed-<n>, "
                "for example sar-optical/decur/default/seed-0"
            )
        return cls(parts[0], parts[1], parts[2], int(parts[3].removeprefix("seed-")))


@dataclass(frozen=True, order=True)
class Cell:
    """Identity of one transfer evaluation of a backbone; `labels` is a percentage."""

    dataset: str
    modalities: str
    protocol: str
    labels: float = 100

    def __str__(self) -> str:
        return f"{self.dataset}/{self.modalities}/{self.protocol}/labels-{self.labels:g}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text that `str(cell)` returns."""
        parts = text.strip("/").split("/")
        try:
            dataset, modalities, protocol, labels = parts
            return cls(dataset, modalities, protocol, float(labels.removeprefix("labels-")))
        except ValueError:
            raise DecurError(
                f"cell '{text}': expected <dataset>/<modalities>/<protocol>/labels-<percent>, "
                "for example bigearthnet/sar+optical/linear/labels-1"
            ) from None


ArtifactKind = Literal[
    "manifest", "card", "weights", "metrics", "transferred", "explanation", "table"
]

MANIFEST, CARD, WEIGHTS = "manifest.json", "card.json", "weights.safetensors"
METRICS, TRANSFERRED = "metrics.json", "cells.json"

ARTIFACTS: dict[ArtifactKind, str] = {
    "manifest": f"raw/{{dataset}}/{MANIFEST}",
    "card": f"shards/{{dataset}}/{CARD}",
    "weights": f"pretrain/{{run}}/{WEIGHTS}",
    "metrics": f"transfer/{{run}}/{{cell}}/{METRICS}",
    "transferred": f"transfer/{{run}}/{TRANSFERRED}",
    "explanation": "explain/{run}/{explainer}.json",
    "table": "tables/{name}.json",
}
"""Path of the record of each kind of artifact, relative to the folder of its scale."""

LISTED: dict[ArtifactKind, tuple[str, ...]] = {
    "explanation": ("explain/{run}/{explainer}.csv",),
    "table": ("tables/{name}.{suffix}", "figures/{name}.{suffix}"),
}
"""Paths of the files that the record of an artifact lists."""

WILDCARDS = {
    "dataset": "[^/]+",
    "run": "[^/]+/[^/]+/[^/]+/seed-[0-9]+",
    "cell": "[^/]+/[^/]+/[^/]+/labels-[^/]+",
    "explainer": "[^/.]+",
    "name": "[^/.]+",
    "suffix": "[a-z]+",
}


class Paths:
    """Paths of the artifacts of one scale, below `results/<scale>`."""

    def __init__(self, results: str, scale: str) -> None:
        self.root = str(PurePosixPath(results) / scale)

    def claim(self) -> str:
        """Return the claim file of the Snakemake process that works on this scale."""
        return f"{self.root}/owner.json"

    def config(self) -> str:
        """Return the file of the resolved configuration."""
        return f"{self.root}/config.json"

    def experiments(self) -> str:
        """Return the file of the experiments as declared when the workflow started."""
        return f"{self.root}/experiments.yaml"

    def raw(self, dataset: str) -> str:
        """Return the folder of the raw files, in the official layout of the dataset."""
        return _parent(self.manifest(dataset))

    def manifest(self, dataset: str) -> str:
        """Return the record of the raw files; it is written last, when they are complete."""
        return self._of("manifest", dataset=dataset)

    def shards(self, dataset: str) -> str:
        """Return the folder of the shards."""
        return _parent(self.card(dataset))

    def piece(self, dataset: str, piece: str) -> str:
        """Return the marker file of a job that has written its part (`piece`) of the shards."""
        return f"{self.shards(dataset)}.pieces/{piece}"

    def card(self, dataset: str) -> str:
        """Return the card of the shards; it is written last, when they are complete."""
        return self._of("card", dataset=dataset)

    def verified(self, dataset: str) -> str:
        """Return the report of the verification of the shards."""
        return f"{self.root}/verified/{dataset}.txt"

    def pretrain(self, run: str) -> str:
        """Return the folder of a pretraining run: weights, checkpoints, step log, TensorBoard."""
        return _parent(self.weights(run))

    def weights(self, run: str) -> str:
        """Return the final weights of backbones and projectors; the record is in the header."""
        return self._of("weights", run=run)

    def released(self, file: str) -> str:
        """Return a downloaded file of weights that the authors released."""
        return f"{self.root}/released/{file}"

    def transfer(self, run: str) -> str:
        """Return the folder of all transfer evaluations of one pretraining run."""
        return f"{self.root}/transfer/{run}"

    def metrics(self, run: str, cell: str) -> str:
        """Return the record of one transfer evaluation."""
        return self._of("metrics", run=run, cell=cell)

    def transferred(self, run: str) -> str:
        """Return the record of all transfer evaluations of a run that a single job made."""
        return self._of("transferred", run=run)

    def explain(self, run: str, explainer: str, suffix: str = "csv") -> str:
        """Return the CSV of an explainer, or its record with the suffix `json`."""
        record = self._of("explanation", run=run, explainer=explainer)
        return f"{record.removesuffix('json')}{suffix}"

    def table(self, name: str, suffix: str) -> str:
        """Return a finished table, or its record with the suffix `json`."""
        return f"{self._of('table', name=name).removesuffix('json')}{suffix}"

    def figure(self, name: str, suffix: str = "png") -> str:
        """Return a finished figure."""
        return f"{self.root}/figures/{name}.{suffix}"

    def report(self) -> str:
        """Return the report of the whole workflow."""
        return f"{self.root}/report.html"

    def preflight(self, job: str) -> str:
        """Return the record of a preflight job; the table of all preflight jobs replaces it."""
        return f"{self.root}/preflight/{job}.json"

    def preflight_table(self) -> str:
        """Return the table of all preflight jobs."""
        return f"{self.root}/preflight/table.txt"

    def log(self, stage: str, name: str) -> str:
        """Return the log file of a job."""
        return f"{self.root}/logs/{stage}/{name}.log"

    def benchmark(self, stage: str, name: str) -> str:
        """Return the file of the time and memory of a job, as measured by Snakemake."""
        return f"{self.root}/benchmarks/{stage}/{name}.tsv"

    def _of(self, kind: ArtifactKind, **identity: str) -> str:
        return f"{self.root}/{ARTIFACTS[kind].format(**identity)}"


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


@dataclass(frozen=True)
class Place:
    """An artifact that a path refers to: its scale, kind and identity.

    `record` is the file of the artifact's record; it may be the path itself. An artifact outside of
    a results folder has an empty identity.
    """

    paths: Paths
    kind: ArtifactKind
    identity: Mapping[str, str]
    record: Path


def identify(path: Path) -> Place | None:
    """Return the artifact that a path refers to, existing or not; None if it is not an artifact.

    Links are not followed, so an artifact always belongs to the results folder that its path names.
    Outside of a results folder, any file with the name of a record counts as a record; its own
    folder then replaces the results folder.
    """
    text = os.path.normpath(path.absolute())
    for kind, template in ARTIFACTS.items():
        for pattern in (template, *LISTED.get(kind, ())):
            if found := _regex(pattern).fullmatch(text):
                root = found["root"]
                identity = {k: v for k, v in found.groupdict().items() if k != "root"}
                record = Path(root) / template.format(**identity)
                return Place(_paths_of(Path(root)), kind, identity, record)
    for kind, template in ARTIFACTS.items():
        if PurePosixPath(text).name == PurePosixPath(template).name:
            return Place(_paths_of(Path(text).parent), kind, {}, Path(text))
    return None


def _paths_of(root: Path) -> Paths:
    return Paths(str(root.parent), root.name)


def _regex(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    wildcards = [f"(?P<{name}>{WILDCARDS[name]})" for name in parts[1::2]]
    fixed = [*map(re.escape, parts[::2])]
    inside = fixed[0] + "".join(w + f for w, f in zip(wildcards, fixed[1:], strict=True))
    return re.compile(f"(?P<root>.*)/{inside}")


def archive_folders(raw: Path, given: str | None) -> list[Path]:
    """Return the folders that may contain the archives: the downloads, then the user's folder."""
    return [raw.with_name(f"{raw.name}.archives"), *([Path(given)] if given else [])]
