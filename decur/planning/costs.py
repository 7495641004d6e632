"""Estimate the cost of a job from its settings and from measured or published rates.

A comment gives the source of each rate, here and in the registries of `decur.config`, which have
the rates of single datasets, backbones, protocols and explainers. No rate is from your machine.
The unit of work is 1 GMAC: a billion multiply-adds of a forward and backward pass in training. A
forward pass alone costs a third of it. This module does not read data or import torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Self

from decur.artifacts.paths import CARD, Cell
from decur.artifacts.records import Card
from decur.config import (
    EXPLAINERS,
    Cmx,
    DatasetSettings,
    ExplainSettings,
    PretrainSettings,
    Recipe,
    Transfer,
    TransferSettings,
    count_views,
)
from decur.config.architectures import ARCHITECTURES, find_architecture
from decur.config.datasets import DATASETS, SSL4EO_IMAGES
from decur.config.explainers import RunSize
from decur.config.methods import CONTRASTIVE_DIMS, METHODS
from decur.config.protocols import PROTOCOLS
from decur.config.released import BY_NAME
from decur.errors import DecurError

HOUR = 3600
GB = 1e9
SIDE = 224  # pixels per side of the images that GMAC and images/s refer to
SCENES_RATE = 50  # scenes drawn or preprocessed per core-second; from the mini run
UNPACK_RATE = 0.1 * GB  # bytes of archive checked and decompressed per core-second; assumed
CHECK_RATE = 0.4 * GB  # bytes of shards checked per core-second; assumed

# 1,735 images/s were measured on an H100 in torch's default precision
# (tests/benchmarks/RESULTS.md), times 0.4: an A100 has 0.32 of the arithmetic and 0.60 of
# the memory bandwidth of an H100.
TRANSFER_IMAGES = 700.0
CPU_GMAC = 4.2  # per core-second: 256 images of 32 pixels through `tiny` in 61 ms
FORWARD = 1 / 3  # cost of a forward pass, relative to forward and backward
RELEASED_BYTES = 1.6 * GB  # for files of unpublished size; that of SSL4EO-S12 has this size
START = 15  # seconds for a job's imports, or to make a table


@dataclass(frozen=True)
class Cost:
    """Core-hours, GPU-hours, GB to download and GB to keep, without the datasets in `unknown`."""

    cpu: float = 0
    gpu: float = 0
    download: float = 0
    stored: float = 0
    unknown: frozenset[str] = field(default_factory=frozenset)

    def __add__(self, other: Self) -> "Cost":
        return Cost(
            self.cpu + other.cpu,
            self.gpu + other.gpu,
            self.download + other.download,
            self.stored + other.stored,
            self.unknown | other.unknown,
        )


SHORT = Cost(cpu=START / HOUR)
"""The cost of a job with little computation: a table, or randomly initialised weights."""


def known_counts(name: str, settings: DatasetSettings) -> dict[str, int]:
    """Return the known samples per split of a dataset before it is made; empty if unknown."""
    known = DATASETS.get(name)
    if known is None or settings.source == "samples":
        return {}
    if settings.scenes is not None:
        return {"train": settings.scenes.train, known.evaluation: settings.scenes.test}
    return {} if known.full is None else dict(known.full.counts)


def counts_on_disk(shards: Path) -> dict[str, int]:
    """Read the samples per split from the card of a folder of shards; empty without a card."""
    try:
        return Card.read(shards / CARD).counts
    except (OSError, DecurError):
        return {}


def fetch_cost(file: str) -> Cost:
    """Estimate the download of a file of weights that the authors released, by its name."""
    size = (BY_NAME[file].size or RELEASED_BYTES) / GB
    return SHORT + Cost(download=size, stored=size)


def download_cost(name: str, settings: DatasetSettings) -> Cost:
    """Estimate how to get raw files: fetch, check and list or unpack archives, or draw scenes.

    The archives are kept.
    """
    if settings.scenes is not None:
        scenes = settings.scenes.train + settings.scenes.test
        return SHORT + Cost(cpu=scenes / SCENES_RATE / HOUR)
    if settings.source in ("samples", "folders") or settings.folder is not None:
        return SHORT
    full = DATASETS[name].full if name in DATASETS else None
    if full is None:
        return Cost(unknown=frozenset({name}))
    fetched = 0.0 if settings.archives is not None else full.download
    cpu = full.download * GB / UNPACK_RATE / HOUR
    unpacked = full.unpacked if settings.unpack else 0.0
    return Cost(cpu=cpu, download=fetched, stored=fetched + unpacked)


def preprocess_cost(name: str, settings: DatasetSettings, share: float) -> Cost:
    """Estimate writing the fraction `share` of a dataset's shards; 0: check finished shards."""
    samples = sum(known_counts(name, settings).values())
    if not samples:
        return Cost(unknown=frozenset({name}))
    size = samples * sample_bytes(name, settings)
    if share == 0:
        return Cost(cpu=size / CHECK_RATE / HOUR)
    full = DATASETS[name].full
    if settings.scenes is not None or full is None:
        seconds = samples / SCENES_RATE
    else:
        seconds = samples * _seasons(name, settings) / full.rate
    return Cost(cpu=share * seconds / HOUR, stored=share * size / GB)


def verify_cost(size: float) -> Cost:
    """Estimate a check of shards of `size` bytes."""
    return Cost(cpu=size / CHECK_RATE / HOUR)


def sample_bytes(name: str, settings: DatasetSettings) -> int:
    """Compute the bytes per stored sample: all seasons and bands of both modalities, and masks."""
    height, width = (settings.pixels,) * 2 if isinstance(settings.pixels, int) else settings.pixels
    known = DATASETS[name]
    planes = sum(known.modalities[modality] for modality in settings.modalities or known.stored)
    return height * width * (planes * _seasons(name, settings) + known.masks)


def _seasons(name: str, settings: DatasetSettings) -> int:
    """Return the number of seasons per stored sample."""
    return settings.seasons if DATASETS[name].seasons else 1


def pretrain_cost(settings: PretrainSettings, counts: Mapping[str, int], threads: int) -> Cost:
    """Estimate the training of both backbones, and the disk space of their weights.

    Checkpoints do not count, since they are deleted at the end.
    """
    stored = Cost(stored=_parameters(settings) * 4 / GB)
    if not METHODS[settings.method].trained:
        return SHORT + stored
    samples = sum(counts.get(split, 0) for split in settings.splits)
    if not samples:
        return stored + Cost(unknown=frozenset({settings.dataset}))
    images = settings.epochs * samples * len(settings.modalities) * count_views(settings)
    known = DATASETS.get(settings.dataset)
    rate = SSL4EO_IMAGES if known is None else known.images_per_second
    work = images * _area(settings.crop) * _gmac(settings)
    return stored + _trained(work, settings.arch, rate, threads)


def transfer_cost(
    settings: TransferSettings,
    cells: Sequence[Cell],
    counts: Mapping[str, Mapping[str, int]],
    threads: int,
) -> Cost:
    """Estimate heads, fine-tuning and evaluation of all cells of a job.

    `counts` is by dataset and split.
    """
    arch, found = settings.pretrain.arch, SHORT
    for cell in cells:
        by_split = counts.get(cell.dataset, {})
        if not by_split:
            found += Cost(unknown=frozenset({cell.dataset}))
            continue
        tested = by_split.get(_evaluation(cell.dataset), 0)
        others = sum(by_split.get(name, 0) for name in _unused(cell.dataset))
        labelled = by_split.get("train", 0) * cell.labels / 100
        images = _cell_images(settings.recipes.get(cell.dataset), cell, labelled, tested, others)
        images *= PROTOCOLS[cell.protocol].work
        found += _trained(images * _gmac(settings.pretrain), arch, TRANSFER_IMAGES, threads)
    return found


def explain_cost(
    explainer: str, settings: ExplainSettings[Any], counts: Mapping[str, int], threads: int
) -> Cost:
    """Estimate an explainer: its passes through the networks, and its other computations."""
    pretrain = settings.pretrain
    held_out = [count for split, count in counts.items() if split not in pretrain.splits]
    parts = 2 if METHODS[pretrain.method].has_unique else 1
    run = RunSize(sum(held_out or counts.values()), pretrain.dim, parts)
    work = EXPLAINERS[explainer].work(settings.recipe, run)
    if work is None:
        return Cost(unknown=frozenset({pretrain.dataset}))
    passes = work.forward * FORWARD + work.backward
    images = len(pretrain.modalities) * passes * _area(work.pixels or pretrain.crop)
    trained = _trained(images * _gmac(pretrain), pretrain.arch, TRANSFER_IMAGES, threads)
    return SHORT + Cost(cpu=work.seconds / HOUR) + trained


def _cell_images(
    transfer: Transfer | None, cell: Cell, labelled: float, tested: int, others: int
) -> float:
    """Return the number of training images of 224 pixels with the same cost as a cell.

    `labelled` samples are trained on, `tested` are evaluated, and `others` are evaluated once after
    training.
    """
    modalities, protocol = len(cell.modalities.split("+")), PROTOCOLS[cell.protocol]
    if transfer is None or protocol.trains is None:
        area = 1.0 if transfer is None else _area(transfer.crop)
        return modalities * (labelled + tested) * area * FORWARD
    shown, recipe = transfer.protocol(cell.protocol)
    epochs = recipe.epochs or (recipe.steps or 0) * shown.batch_size / max(labelled, 1)
    tries = 1 + 0.9 * len(recipe.lr_sweep)
    training, evaluations = labelled * epochs * tries, _evaluations(recipe)
    if protocol.trains == "head":
        training *= FORWARD
        if not shown.augment:  # features are computed once
            training, evaluations = labelled * FORWARD, 1
    passes = evaluations + (modalities > 1)  # one more with each modality missing
    testing = (tested * passes + others) * _windows(shown) * FORWARD
    return modalities * (training + testing) * _area(shown.crop)


def _evaluations(recipe: Recipe) -> int:
    every = recipe.evaluate_every
    return math.ceil(recipe.epochs / every) if every and recipe.epochs else 1


def _windows(shown: Transfer | Cmx) -> float:
    """Return the number of passes per pixel of an evaluation image, without window overlaps."""
    if shown.sliding is None:
        return 1.0
    sizes = sum(scale**2 for scale in shown.sliding.scales)
    return sizes * (2 if shown.sliding.flip else 1)


def _trained(work: float, arch: str, rate: float, threads: int) -> Cost:
    """Convert GMAC to hours: core-hours for small networks, else GPU-hours and reserved cores.

    `rate` is the speed in images/s at which the GPU trains a ResNet-50.
    """
    if find_architecture(arch).small:
        return Cost(cpu=work / CPU_GMAC / HOUR)
    hours = work / ARCHITECTURES["resnet50"].gmac / rate / HOUR
    return Cost(cpu=hours * threads, gpu=hours)


def _gmac(settings: PretrainSettings) -> float:
    """Return the GMAC of a forward pass per image, averaged over the modalities."""
    return mean(find_architecture(settings.arch_of(name)).gmac for name in settings.modalities)


def _area(crop: int | tuple[int, int]) -> float:
    height, width = (crop, crop) if isinstance(crop, int) else crop
    return height * width / SIDE**2


def _parameters(settings: PretrainSettings) -> float:
    """Count the parameters of both backbones and their projectors."""
    archs = [find_architecture(settings.arch_of(name)) for name in settings.modalities]
    width = settings.head_dim or max(arch.features for arch in archs)
    hidden, out = settings.projector_hidden or settings.dim, settings.dim
    if METHODS[settings.method].contrastive:
        hidden, out = CONTRASTIVE_DIMS
    layers = settings.projector_layers
    projector = width * hidden + max(layers - 2, 0) * hidden**2 + hidden * out if layers else 0
    projectors = 1 if settings.projector == "shared" else 2
    return sum(arch.parameters for arch in archs) * 1e6 + projectors * projector


def _unused(name: str) -> tuple[str, ...]:
    return DATASETS[name].unused if name in DATASETS else ()


def _evaluation(name: str) -> str:
    return DATASETS[name].evaluation if name in DATASETS else "test"
