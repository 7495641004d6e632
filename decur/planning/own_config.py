"""Write the configuration of a first run on a user's own folders of images, with comments."""

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import yaml

from decur.artifacts.files import write_atomically
from decur.config import parse_config
from decur.config.strict import slug
from decur.config.yaml_file import parse_yaml
from decur.errors import DecurError
from decur.planning.own_images import Images, Inspection, Labels, Masks, inspect

SQUARE = 128
"""Side of the squares that large images are cut into, and the largest side that is stored."""

STEPS = 400
"""Optimiser steps that a first pretraining takes."""

TEST_SHARE = 0.2

FEW = 200
"""Training samples below which a warning is given; the trials of this project had 257 and more."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of samples, views and batches that fit the data."""

    pixels: int
    crop: int
    cut: bool
    train: int
    batch: int
    epochs: int


def init_config(folders: Sequence[Path], labels: Path | None, out: Path) -> list[str]:
    """Inspect folders, write their configuration, and return what to print.

    Raises:
        DecurError: see `inspect`; or `out` exists.
    """
    if out.exists():
        raise DecurError(f"{out}: exists already; move it, or give another file by --out")
    name = slug(out.stem) or "own"
    found = inspect(folders, labels, SQUARE)
    text = config_text(name, out, found)
    parse_config(parse_yaml(text, str(out)))
    write_atomically(out, lambda path: path.write_text(text, encoding="utf-8"))
    return summary(out, found)


def sizes(found: Inspection) -> Sizes:
    """Choose sizes such that a first run takes some hundred steps.

    Raises:
        DecurError: the images are smaller than 16 pixels.
    """
    side = min(found.size)
    cut = side >= SQUARE and found.squares >= 2 and not isinstance(found.labels, Labels)
    pixels = SQUARE if cut else min(SQUARE, side // 16 * 16)
    if pixels < 16:
        raise DecurError(
            f"{found.modalities[0].folder}: images of {found.size[1]} x {found.size[0]} pixels; at "
            "least 16 x 16 are needed"
        )
    samples = found.pairs * (found.squares if cut else 1)
    train = max(1, int(samples * (1 - TEST_SHARE)))
    batch = next((size for size in (64, 32, 16, 8, 4) if size * 2 <= train), 2)
    steps = max(1, train // batch)
    crop = ceil(pixels * 0.6 / 8) * 8
    return Sizes(pixels, crop, cut, train, batch, ceil(STEPS / steps))


def summary(out: Path, found: Inspection) -> list[str]:
    """Describe what was found and written, and the next command, in a few lines."""
    chosen = sizes(found)
    first, *others = [f"{m.name} ({_values(m)})" for m in found.modalities]
    height, width = found.size
    lines = [
        f"{found.pairs} pairs of {first} and {', '.join(others)}, at least {width} x {height} "
        "pixels"
    ]
    if found.labels is not None:
        lines.append(
            f"{found.labelled} of them have labels of {len(_classes(found.labels))} classes"
        )
    lines += [f"warning: {text}" for text in warnings(found)]
    lines.append(
        f"{out}: about {chosen.train} training samples, {chosen.epochs} epochs; edit it, then run"
    )
    return [*lines, f"snakemake --cores 2 --configfile {shlex.quote(str(out))}"]


def warnings(found: Inspection) -> list[str]:
    """List what limits a run on these data."""
    train = sizes(found).train
    texts = []
    if train < FEW:
        texts.append(
            f"about {train} training samples are few: enough to try the pipeline, hardly enough "
            "for useful features"
        )
    if found.alone:
        texts.append(f"{found.alone} names are not in all folders; these images are skipped")
    if found.faulty:
        texts.append(
            f"{found.faulty} of the {found.looked} pairs that were opened cannot be read or have "
            "pixels without data; such pairs are skipped"
        )
    if found.align != "refuse":
        texts.append("the pixel grids of some pairs differ; they are interpolated onto the first")
    if len(found.modalities) > 2:
        texts.append("a scenario trains on two modalities; the first two are chosen")
    return texts


def config_text(name: str, out: Path, found: Inspection) -> str:
    """Return the configuration as commented YAML; `name` is its scale and its dataset."""
    chosen = sizes(found)
    first, second = found.modalities[:2]
    scenario = f"{first.name}-{second.name}"
    return "\n".join(
        [
            f"# A first run on {found.pairs} pairs of images, written by `decur init`.",
            f"# snakemake --cores 2 --configfile {out.name}",
            *(f"# Warning: {text}." for text in warnings(found)),
            f"scale: {name} # results are in results/{name}",
            "methods: [decur, random] # compare more: barlow-twins, barlow-twins-single, vicreg",
            "seeds: [0] # several seeds give standard deviations and intervals",
            "",
            *_dataset(name, found, chosen),
            "",
            *_scenario(name, scenario, (first, second), chosen),
            "",
            *_transfer(name, found, chosen),
            *_experiments(name, scenario, (first, second), found),
            "",
        ]
    )


def _dataset(name: str, found: Inspection, chosen: Sizes) -> Iterable[str]:
    yield from ["datasets:", f"  {name}:", "    source: folders"]
    yield f"    pixels: {chosen.pixels} # side of a stored sample"
    if found.alone or found.faulty:
        yield "    bad_samples: skip # skipped samples are listed in quarantine.csv of the shards"
    yield from ["    folders:", "      modalities:"]
    for images in found.modalities:
        yield f"        {images.name}: # {_values(images)}"
        yield f"          folder: {_quoted(_portable(images.folder))}"
        made_up = "" if images.named else " # the files give no names; rename"
        yield f"          bands: {_listed(images.bands)}{made_up}"
        if images.stored:
            yield "          scale: stored # 8-bit values as they are"
        else:
            yield "          scale: percentiles # the 1-99 % range of each band, or [min, max]"
    yield from _labels(found.labels)
    if found.align != "refuse":
        yield f"      align: {found.align} # images on another pixel grid than the first modality's"
    if chosen.cut:
        yield f"      cut: true # cut images into squares of {chosen.pixels} pixels"
    yield f"      split: {TEST_SHARE} # share of images for testing, or a CSV of id,split"
    yield "      licence: none stated"


def _labels(labels: Masks | Labels | None) -> Iterable[str]:
    if isinstance(labels, Labels):
        yield f"      labels: {_quoted(_portable(labels.path))}"
        yield f"      classes: {_listed(labels.classes)}"
    if isinstance(labels, Masks):
        yield f"      masks: {_quoted(_portable(labels.folder))}"
        yield f"      classes: {_listed(_classes(labels))} # rename, in this order"
        if labels.values != tuple(range(len(labels.values))):
            yield f"      mask_values: {list(labels.values)} # the value of each class in the masks"
        if labels.ignore is not None:
            yield f"      ignore: {labels.ignore} # the mask value of unlabelled pixels"


def _scenario(
    name: str, scenario: str, pair: tuple[Images, Images], chosen: Sizes
) -> Iterable[str]:
    yield from ["scenarios:", f"  {scenario}:", "    modalities:"]
    for images in pair:
        preset, why = (
            ("image", "photographs") if images.is_photo else ("measured", "measured values")
        )
        yield f"      {images.name}: {preset} # augmentation for {why}"
    steps = max(1, chosen.train // chosen.batch) * chosen.epochs
    yield from [
        "    pretrain:",
        f"      dataset: {name}",
        "      arch: tiny # for a laptop; resnet50 for a GPU",
        f"      crop: {chosen.crop} # side of a view",
        f"      epochs: {chosen.epochs} # about {steps} steps",
        f"      batch_size: {chosen.batch}",
        "      optimizer: adamw",
        "      lr: 0.002",
        "      lr_1d: 0.002",
        "      dim: 256 # embedding dimensions",
        "      dim_common: 192 # of them common",
    ]


def _transfer(name: str, found: Inspection, chosen: Sizes) -> Iterable[str]:
    if found.labels is None:
        return
    masks = isinstance(found.labels, Masks)
    images = found.labelled * (found.squares if chosen.cut else 1) * (1 - TEST_SHARE)
    batch = min(16, chosen.batch)
    epochs = max(2, min(50, ceil(STEPS * batch / max(1, images))))
    yield from [
        "transfer_together: true",
        "transfer:",
        f"  {name}:",
        f"    task: {'segmentation' if masks else 'classification'}",
        f"    crop: {chosen.pixels}",
        "    augment: false",
        f"    batch_size: {batch}",
        *(["    predictions: 4 # test samples for the gallery"] if masks else []),
        f"    linear: {{optimizer: adamw, lr: 0.01, epochs: {epochs}}}",
        f"    fine_tune: {{optimizer: adamw, lr: 0.001, epochs: {epochs}}}",
        "",
    ]


def _experiments(
    name: str, scenario: str, pair: tuple[Images, Images], found: Inspection
) -> Iterable[str]:
    first, second = (images.name for images in pair)
    masks = isinstance(found.labels, Masks)
    task, metric, unit = (
        ("Segmentation", "miou", "mean IoU") if masks else ("Classification", "map_macro", "mAP")
    )
    rows = [
        "    rows:",
        "      - {label: Rand. Init., method: random}",
        "      - {label: DeCUR, method: decur}",
    ]
    both = f"{first}+{second}"
    panel = f"scenario: {scenario}, dataset: {name}, metrics: [{metric}]"
    yield "own_experiments:"
    if found.labels is not None:
        yield from [
            "  transfer:",
            "    title: Transfer with all labels",
            f"    caption: {task}, {unit} in percent.",
            *rows,
            "    panels:",
        ]
        for modalities in (both, first, second):
            yield (
                f"      - {{label: {modalities}, modalities: {modalities}, "
                f"protocols: [linear, fine-tune], {panel}}}"
            )
    if masks:
        yield from [
            "  gallery:",
            "    title: Predictions",
            "    caption: Images, labels, and predictions after linear evaluation.",
            "    kind: gallery",
            *rows,
            "    panels:",
            f"      - {{label: {both}, modalities: {both}, protocols: [linear], {panel}}}",
        ]
    yield from [
        "  alignment:",
        "    title: Alignment of the embedding dimensions",
        "    caption: Loss per dimension; 0 is aligned across modalities, 1 uncorrelated.",
        "    kind: alignment",
        rows[0],
        rows[2],
        "    panels:",
        f"      - {{label: {both}, modalities: {both}, protocols: [knn], {panel}}}",
    ]


def _classes(labels: Masks | Labels) -> tuple[str, ...]:
    """The names of the classes; those of masks are made up from their values."""
    if isinstance(labels, Labels):
        return labels.classes
    return tuple(f"class {value}" for value in labels.values)


def _values(images: Images) -> str:
    """Describe the bands and data type of a modality."""
    count = len(images.bands)
    return f"{count} {'band' if count == 1 else 'bands'} of {images.dtype}"


def _portable(path: Path) -> str:
    """The path relative to the working folder if it lies in it, as Snakemake will start there."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def _quoted(text: str) -> str:
    """Spell a string for YAML, where most need no quotes."""
    plain = re.fullmatch(r"[A-Za-z][\w ./-]*[\w/]", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def _listed(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"
