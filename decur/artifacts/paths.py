"""Where artifacts lie below `results/<scale>`: from an identity to its path, and back.

A pretraining run is `<scenario>/<method>/<variant>/seed-<n>`, a transfer run adds
`<dataset>/<modalities>/<protocol>/labels-<percent>`. `Paths` takes identities as text, so that a
Snakemake wildcard (`"{run}"`) passes through unchanged. `identify` is the inverse.
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
    """Identity of a pretraining run; `variant` spells only what differs from the defaults."""

    scenario: str
    method: str
    variant: str = "default"
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.scenario}/{self.method}/{self.variant}/seed-{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str(run)`."""
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
        """The inverse of `str(cell)`."""
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
"""The record of each kind of artifact, below the folder of its scale."""

LISTED: dict[ArtifactKind, tuple[str, ...]] = {
    "explanation": ("explain/{run}/{explainer}.csv",),
    "table": ("tables/{name}.{suffix}", "figures/{name}.{suffix}"),
}
"""Files that the record of their artifact lists."""

WILDCARDS = {
    "dataset": "[^/]+",
    "run": "[^/]+/[^/]+/[^/]+/seed-[0-9]+",
    "cell": "[^/]+/[^/]+/[^/]+/labels-[^/]+",
    "explainer": "[^/.]+",
    "name": "[^/.]+",
    "suffix": "[a-z]+",
}


class Paths:
    """Paths of one scale's artifacts below `results/<scale>`."""

    def __init__(self, results: str, scale: str) -> None:
        self.root = str(PurePosixPath(results) / scale)

    def claim(self) -> str:
        """The claim of the Snakemake that works on the results of the scale."""
        return f"{self.root}/owner.json"

    def config(self) -> str:
        """The resolved configuration."""
        return f"{self.root}/config.json"

    def experiments(self) -> str:
        """The tables and figures as they were declared when the workflow began."""
        return f"{self.root}/experiments.yaml"

    def raw(self, dataset: str) -> str:
        """Folder of the raw files, in the dataset's official layout."""
        return _parent(self.manifest(dataset))

    def manifest(self, dataset: str) -> str:
        """Record of the raw files; written last, when they are complete."""
        return self._of("manifest", dataset=dataset)

    def shards(self, dataset: str) -> str:
        """Folder of the paired shards."""
        return _parent(self.card(dataset))

    def piece(self, dataset: str, piece: str) -> str:
        """Marker of one of several jobs that has written its part of the shards."""
        return f"{self.shards(dataset)}.pieces/{piece}"

    def card(self, dataset: str) -> str:
        """Record of the shards; written last, when they are complete."""
        return self._of("card", dataset=dataset)

    def verified(self, dataset: str) -> str:
        """Report of the verification of the shards."""
        return f"{self.root}/verified/{dataset}.txt"

    def pretrain(self, run: str) -> str:
        """Folder of a pretraining run: weights, checkpoints, step log, TensorBoard."""
        return _parent(self.weights(run))

    def weights(self, run: str) -> str:
        """Final weights of both backbones and projectors; their record is in the file's header."""
        return self._of("weights", run=run)

    def released(self, file: str) -> str:
        """A file of weights that the authors released, as it was downloaded."""
        return f"{self.root}/released/{file}"

    def transfer(self, run: str) -> str:
        """Folder of all transfer evaluations of one pretraining run."""
        return f"{self.root}/transfer/{run}"

    def metrics(self, run: str, cell: str) -> str:
        """Record of a transfer evaluation."""
        return self._of("metrics", run=run, cell=cell)

    def transferred(self, run: str) -> str:
        """Record of all transfer evaluations of a run, where one job makes them together."""
        return self._of("transferred", run=run)

    def explain(self, run: str, explainer: str, suffix: str = "csv") -> str:
        """Table of an explainer, as CSV; with the suffix `json` its record."""
        record = self._of("explanation", run=run, explainer=explainer)
        return f"{record.removesuffix('json')}{suffix}"

    def table(self, name: str, suffix: str) -> str:
        """A finished table; with the suffix `json` its record."""
        return f"{self._of('table', name=name).removesuffix('json')}{suffix}"

    def figure(self, name: str, suffix: str = "png") -> str:
        """A finished figure."""
        return f"{self.root}/figures/{name}.{suffix}"

    def report(self) -> str:
        """The report of the whole workflow."""
        return f"{self.root}/report.html"

    def preflight(self, job: str) -> str:
        """Record of a preflight job, until the table of all of them is made."""
        return f"{self.root}/preflight/{job}.json"

    def preflight_table(self) -> str:
        """The table of all preflight jobs."""
        return f"{self.root}/preflight/table.txt"

    def log(self, stage: str, name: str) -> str:
        """Output of a job."""
        return f"{self.root}/logs/{stage}/{name}.log"

    def benchmark(self, stage: str, name: str) -> str:
        """Time and memory of a job, as Snakemake measures them."""
        return f"{self.root}/benchmarks/{stage}/{name}.tsv"

    def _of(self, kind: ArtifactKind, **identity: str) -> str:
        return f"{self.root}/{ARTIFACTS[kind].format(**identity)}"


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


@dataclass(frozen=True)
class Place:
    """What a path stands for: an artifact of a scale, by its kind and identity.

    `record` is the file of the artifact's record, which the path itself may be. An artifact outside
    of a results folder has no identity.
    """

    paths: Paths
    kind: ArtifactKind
    identity: Mapping[str, str]
    record: Path


def identify(path: Path) -> Place | None:
    """What a path stands for, whether it exists or not; None if it is no artifact's.

    Links are not followed, so that an artifact is where its results folder is. Elsewhere a file
    with the name of a record is one, with its own folder in place of the results folder.
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
    """Where the archives of a raw folder may lie: those fetched for it, and the user's own."""
    return [raw.with_name(f"{raw.name}.archives"), *([Path(given)] if given else [])]
