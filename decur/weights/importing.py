"""Import the authors' released files as weights files that every stage reads.

A file is identified by its checksum, or by the names and shapes of its tensors. The first
convolutions are converted to the bands of our shards: red before blue, and a single band once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from decur import datasets
from decur.artifacts.files import file_checksum
from decur.artifacts.ownership import check_ours
from decur.artifacts.paths import WEIGHTS
from decur.artifacts.provenance import provenance
from decur.artifacts.records import ReleasedFile, Weights
from decur.artifacts.scaling import Scaling
from decur.config.architectures import ARCHITECTURES, MEAN_POOLED, with_format
from decur.config.released import (
    BY_NAME,
    LICENCE,
    OPTICAL_MEAN,
    OPTICAL_STD,
    RELEASED,
    RELEASED_FORMAT,
    RELEASED_PAIRS,
    Released,
    of_checksum,
)
from decur.errors import DecurError
from decur.imagery.bands import spread
from decur.imagery.plausible import REFLECTANCE_UNITS
from decur.models.backbones import build_backbone
from decur.shards import Modality
from decur.weights.files import is_weights, read_tensors, save_weights
from decur.weights.first_layer import in_our_bands
from decur.weights.naming import (
    ATTENTION,
    ReleasedParts,
    Tensors,
    first_convolution,
    from_published,
    naming_of,
    released_parts,
)
from decur.weights.net_input import describe, description

CROP = 224
Pool = Literal["token", "mean"]


@dataclass(frozen=True)
class Imported:
    """An imported file: its path, its content, and notes about it."""

    path: Path
    what: str
    notes: tuple[str, ...]


def import_weights(
    path: Path, out: Path, like: str | None = None, *, pool: Pool | None = None
) -> Imported:
    """Convert a released file to a weights file, `out` or `out/weights.safetensors`.

    `like` names a similar released file if the checksum is unknown. `pool` selects the features of
    a vision transformer, by default the class token as in the released code.

    Raises:
        DecurError: the file is missing, damaged or holds code; it has a released file's name but
            not its checksum; it is none of the released kinds; `pool` is given for another network;
            or `out` exists and is not ours.
    """
    target = out if out.suffix == ".safetensors" else out / WEIGHTS
    check_ours(target, is_weights)
    parts = released_parts(read_tensors(path))
    digest = file_checksum(path)
    published = of_checksum(digest.removeprefix("sha256:"))
    entry = published or _named(path, digest.removeprefix("sha256:"), like)
    archs = [pooling(architecture(path, b), pool) for b in parts.backbones]
    if entry is None:
        entry = _guess(path, parts, archs[0])
    elif not fits(entry, parts, archs[0]):
        raise DecurError(f"{path}: has {_described(parts, archs[0])}, unlike {entry.name}")
    scenario = RELEASED_PAIRS[entry.scenario]
    names = [entry.modality] if entry.modality else list(scenario.presets)
    origin = f"as published for {published.name}" if published else "unknown: source not verified"
    notes = [f"checksum {origin}", *_attention_notes(parts, archs[0])]
    if parts.projectors:
        notes.append("dim_common: not recorded in the file; explainers use the one in the settings")
    tensors: Tensors = {}
    for name, arch, theirs in zip(names, archs, parts.backbones, strict=True):
        branch = list(scenario.presets).index(name)
        ours, change = in_our_bands(from_published(arch, theirs), name, scenario)
        notes += [change] if change else []
        tensors |= {f"backbones.{branch}.{key}": t for key, t in ours.items()}
    for kind, networks in (("heads", parts.heads), ("projectors", parts.projectors)):
        for number, network in enumerate(networks):
            tensors |= {f"{kind}.{number}.{key}": t for key, t in network.items()}
    released = ReleasedFile(
        file=published.name if published else path.name,
        licence=LICENCE if published else "other",
        notes=tuple(notes),
    )
    record = _record(path, digest, replace(entry, arch=archs[0]), parts, names, released)
    save_weights(target, {key: t.clone() for key, t in tensors.items()}, record)
    what = f"{archs[0]}, {entry.scenario}, {' and '.join(names)}"
    return Imported(target, what, tuple(notes))


def _named(path: Path, sha256: str, like: str | None) -> Released | None:
    """Find by `like` or by name the released file that a file of unknown checksum is similar to."""
    if like is not None:
        if like not in BY_NAME:
            raise DecurError(f"--like {like}: no released file; use one of {', '.join(BY_NAME)}")
        return BY_NAME[like]
    named = BY_NAME.get(path.name)
    if named is not None and named.sha256:
        raise DecurError(
            f"{path}: its SHA-256 is {sha256}, that of the released file is {named.sha256}; fetch "
            f"it again from {named.url}, or rename it if it is another file"
        )
    return named


def architecture(path: Path, theirs: Mapping[str, Tensor]) -> str:
    """Identify the architecture of a backbone by the published names and shapes of its tensors.

    Raises:
        DecurError: naming the file, if it is none of the released kinds.
    """
    for arch in _importable():
        first = theirs.get(naming_of(arch).first)
        if first is None or first.ndim != 4:
            continue
        if _shapes(from_published(arch, theirs)) == _own_shapes(arch, first.shape[1]):
            return arch
    names = ", ".join(sorted(theirs)[:3]) or "none"
    raise DecurError(f"{path}: its tensors ({names}, ...) fit none of the released backbones")


def _importable() -> list[str]:
    """List the architectures to identify a file by: with the class token, not the patches' mean.

    The tensors of both are the same, see `pooling`.
    """
    released = with_format(RELEASED_FORMAT)
    return [arch for arch in released if arch not in MEAN_POOLED]


def pooling(arch: str, pool: Pool | None) -> str:
    """Choose the architecture with the class token or the mean of the patches as features.

    Raises:
        DecurError: a choice for an architecture that leaves none.
    """
    if pool not in (None, "token", "mean"):
        raise DecurError(f"--pool {pool}: unknown; use token or mean")
    mean = ARCHITECTURES[arch].mean_pooled
    if pool is not None and mean is None:
        raise DecurError(f"--pool {pool}: only for vision transformers, not {arch}; leave it out")
    return mean if mean is not None and pool == "mean" else arch


@cache
def _own_shapes(arch: str, chans: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return _shapes(build_backbone(arch, chans).state_dict())


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _guess(path: Path, parts: ReleasedParts, arch: str) -> Released:
    """Find a released file of the same kind, if all of that kind have one scenario and modality."""
    fitting = [entry for entry in RELEASED if fits(entry, parts, arch)]
    if len({(entry.scenario, entry.modality) for entry in fitting}) == 1:
        return fitting[0]
    what = _described(parts, arch)
    if not fitting:
        raise DecurError(f"{path}: has {what}; no such file was released")
    raise DecurError(
        f"{path}: has {what}, like several released files; choose the most similar by --like: "
        + ", ".join(entry.name for entry in fitting)
    )


def fits(entry: Released, parts: ReleasedParts, arch: str) -> bool:
    """Check whether a released file is of the same kind, whatever its networks' depth and width."""
    scenario = RELEASED_PAIRS[entry.scenario]
    expected, branch = list(scenario.chans), None
    if entry.modality is not None:
        branch = list(scenario.presets).index(entry.modality)
        expected = [scenario.chans[branch]]
    return (
        _kind(entry.arch) == _kind(arch)
        and _chans(parts) == expected
        and parts.branch in (None, branch)
    )


def _kind(arch: str) -> tuple[str, bool]:
    return ARCHITECTURES[arch].family, ARCHITECTURES[arch].attention


def _chans(parts: ReleasedParts) -> list[int]:
    return [backbone[first_convolution(backbone)].shape[1] for backbone in parts.backbones]


def _described(parts: ReleasedParts, arch: str) -> str:
    return f"{arch} with {' and '.join(map(str, _chans(parts)))} channels"


def _attention_notes(parts: ReleasedParts, arch: str) -> list[str]:
    if not ARCHITECTURES[arch].attention:
        return []
    if len(parts.backbones) == 2:
        one, two = parts.backbones
        if any(not torch.equal(t, two[k]) for k, t in one.items() if k.startswith(ATTENTION)):
            return []  # exported by this package, with separate attention per branch
        return ["attention: both branches have da1, because the released training used it for both"]
    if parts.branch == 1:
        return [
            "attention: da2, which was never trained (the released training used da1 for both "
            "branches); the joint file has the attention that this backbone was trained with"
        ]
    return []


def _record(
    path: Path,
    digest: str,
    entry: Released,
    parts: ReleasedParts,
    names: Sequence[str],
    released: ReleasedFile,
) -> Weights:
    """Record the known settings, the bands and the transform.

    The seed of the released files is left out, because it is not a seed of this package. They do
    not record which dimensions are common, so `dim_common` is null.
    """
    scenario = RELEASED_PAIRS[entry.scenario]
    settings: dict[str, Any] = {
        "scenario": entry.scenario,
        "method": "decur",
        "dataset": scenario.dataset,
        "arch": entry.arch,
        "modalities": dict(scenario.presets),
        "crop": CROP,
        "released": str(path),
    }
    if parts.projectors:
        weights = [t for t in parts.projectors[0].values() if t.ndim == 2]
        dim = weights[-1].shape[0]
        settings |= {"dim": dim, "dim_common": None}
        settings |= {"projector_layers": len(weights), "weighting": "official"}
        settings |= {"projector": "shared" if len(parts.projectors) == 1 else "separate"}
        settings |= {"head_dim": parts.heads[0]["weight"].shape[0] if parts.heads else 0}
    known = {m.name: m for m in datasets.load(scenario.dataset).DATASET.modalities}
    bands = {name: modality.bands for name, modality in known.items()}
    return Weights(
        provenance=provenance(settings, {path.name: digest}, ("torch",)),
        bands={name: bands[name] for name in names},
        scalings={name: _scaling(entry, known[name]) for name in names},
        preprocessing={name: _preprocessing(entry, name, bands[name]) for name in names},
        released=released,
    )


def _scaling(entry: Released, modality: Modality) -> Scaling:
    if entry.standardised and modality.name == "optical":
        return spread(OPTICAL_MEAN, OPTICAL_STD, REFLECTANCE_UNITS)
    return modality.typed_scaling


def _preprocessing(entry: Released, modality: str, bands: tuple[str, ...]) -> dict[str, Any]:
    """Describe the inputs of the released backbone, in our order of bands.

    The released code applied the means of red, green and blue to blue, green and red.
    """
    scenario = RELEASED_PAIRS[entry.scenario]
    preset = scenario.presets[modality]
    if entry.standardised and modality == "optical":
        scaling = spread(OPTICAL_MEAN, OPTICAL_STD, REFLECTANCE_UNITS)
        return description(modality, bands, scaling, preset, CROP)
    transform = describe(scenario.dataset, modality, preset, CROP)
    if modality in scenario.reversed:
        transform |= {key: transform[key][::-1] for key in ("mean", "std")}
    return transform
