"""Where everything lies: the identity of a run and the one place that turns it into paths.

A pretraining run is `<scenario>/<method>/<variant>/seed-<n>`, a transfer run adds
`<dataset>/<modalities>/<protocol>/labels-<percent>`. Every function takes the identity as text, so
that a Snakemake wildcard (`"{run}"`) passes through unchanged.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

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
        if len(parts) != 4 or not parts[3].removeprefix("seed-").isdigit():
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


class Paths:
    """Paths of one scale's products below `results/<scale>`."""

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
        return f"{self.root}/raw/{dataset}"

    def manifest(self, dataset: str) -> str:
        """The JSON that says the raw files are complete, and where they are from."""
        return f"{self.raw(dataset)}/manifest.json"

    def shards(self, dataset: str) -> str:
        """Folder of the paired shards."""
        return f"{self.root}/shards/{dataset}"

    def piece(self, dataset: str, piece: str) -> str:
        """Says that one of several jobs has written its part of the shards."""
        return f"{self.root}/shards/{dataset}.pieces/{piece}"

    def card(self, dataset: str) -> str:
        """The JSON that says the shards are complete, and what they hold."""
        return f"{self.shards(dataset)}/card.json"

    def verified(self, dataset: str) -> str:
        """What verifying the shards said."""
        return f"{self.root}/verified/{dataset}.txt"

    def pretrain(self, run: str) -> str:
        """Folder of a pretraining run: weights, checkpoints, step log, TensorBoard."""
        return f"{self.root}/pretrain/{run}"

    def weights(self, run: str) -> str:
        """Final weights of both backbones and projectors."""
        return f"{self.pretrain(run)}/weights.safetensors"

    def transfer(self, run: str) -> str:
        """Folder of everything measured on one pretraining run's backbones."""
        return f"{self.root}/transfer/{run}"

    def metrics(self, run: str, cell: str) -> str:
        """The product of a transfer run."""
        return f"{self.transfer(run)}/{cell}/metrics.json"

    def transferred(self, run: str) -> str:
        """The record of all transfer evaluations of a run, where one job makes them together."""
        return f"{self.transfer(run)}/cells.json"

    def explain(self, run: str, kind: str, suffix: str = "csv") -> str:
        """What an explainer found of a run; the JSON says where it is from."""
        return f"{self.root}/explain/{run}/{kind}.{suffix}"

    def table(self, name: str, suffix: str) -> str:
        """A finished table."""
        return f"{self.root}/tables/{name}.{suffix}"

    def figure(self, name: str, suffix: str = "png") -> str:
        """A finished figure."""
        return f"{self.root}/figures/{name}.{suffix}"

    def report(self) -> str:
        """The report of the whole workflow."""
        return f"{self.root}/report.html"

    def log(self, stage: str, name: str) -> str:
        """What a job printed."""
        return f"{self.root}/logs/{stage}/{name}.log"

    def benchmark(self, stage: str, name: str) -> str:
        """Time and memory of a job, as Snakemake measures them."""
        return f"{self.root}/benchmarks/{stage}/{name}.tsv"
