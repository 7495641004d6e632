"""Export a backbone for other software: its weights, a model card and the preprocessing."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from decur.artifacts.ownership import write_with_record
from decur.artifacts.paths import WEIGHTS
from decur.artifacts.records import Weights
from decur.config.architectures import ARCHITECTURES, find_architecture
from decur.config.released import RELEASED_FORMAT
from decur.errors import DecurError
from decur.weights import card
from decur.weights.files import branch_weights, modalities_of, read_weights, recorded_arch
from decur.weights.joint import joint_tensors
from decur.weights.naming import Tensors, first_convolution, to_cmx, to_published
from decur.weights.net_input import linear, recorded

Content = dict[str, bytes]
"""Files by name."""


@dataclass(frozen=True)
class Source:
    """One backbone of a weights file and its input; `stem` is the prefix of file names."""

    tensors: Tensors
    arch: str
    branch: int
    transform: Mapping[str, Any]
    stem: str

    @property
    def chans(self) -> int:
        """Return the number of bands of its input."""
        return len(self.transform["bands"])


@dataclass(frozen=True)
class Format:
    """A file format of one backbone: the library that loads it, and how to write it.

    The registry of architectures lists the formats of each (`Architecture.formats`). `write`
    returns the files and the Python code that loads them: it defines `net`, and `features` of an
    image `raw`.
    """

    library: str
    write: Callable[[Source], tuple[Content, str]]


def export(
    weights: Path,
    out: Path,
    *,
    format: str,
    modality: str | None = None,
    licence: str | None = None,
) -> list[Path]:
    """Write a backbone of a run's folder, or of a weights file, into the folder `out`.

    The format `released` contains both backbones and their projectors, and takes no modality.
    `licence` is the licence of the weights in the spelling of model hubs. By default it is that of
    the released file that they were imported from, otherwise `other`. Returns the files written.

    Raises:
        DecurError: the weights are missing or damaged or have no such modality, the format does
            not have their architecture, or a file to be written exists and is not ours.
    """
    if format not in FORMATS:
        raise DecurError(f"--format {format}: unknown; use one of {', '.join(FORMATS)}")
    path = weights / WEIGHTS if weights.is_dir() else weights
    tensors, record = read_weights(path)
    licence = licence or (record.released.licence if record.released else "other")
    if format == RELEASED_FORMAT:
        return _write_released(path, tensors, record, out, modality, licence)
    source = _source(path, tensors, record, modality)
    known = find_architecture(source.arch).formats
    if format not in known:
        fitting = ", ".join(name for name in SINGLE if name in known)
        raise DecurError(f"{path}: {format} does not support {source.arch}; use one of {fitting}")
    content, usage = SINGLE[format].write(source)
    text = card.render(
        record=record,
        arch=source.arch,
        transform=source.transform,
        usage=usage,
        measured=card.scores(path, source.transform["modality"]),
        licence=licence,
        library=SINGLE[format].library,
    )
    content |= {"README.md": text.encode()}
    described = {**source.transform, "linear": linear(source.transform)}
    listing = out / "preprocessing.json"
    write_with_record(listing, described, {out / name: data for name, data in content.items()})
    return [*(out / name for name in content), listing]


def _source(path: Path, tensors: Tensors, record: Weights, modality: str | None) -> Source:
    held = modalities_of(path, tensors, record)
    if modality is None and len(held) == 1:
        modality = next(iter(held))
    if modality is None or modality not in held:
        given = "" if modality is None else f" {modality}"
        raise DecurError(f"{path}: --modality{given}: choose one of {', '.join(held)}")
    settings = record.provenance.settings
    transform, branch = recorded(record, modality), held[modality]
    arch = str(recorded_arch(record, modality))
    stem = "_".join([arch, settings["dataset"], modality, settings["method"]])
    return Source(branch_weights(tensors, branch), arch, branch, transform, stem)


def _torchvision(source: Source) -> tuple[Content, str]:
    file = f"{source.stem}.pth"
    usage = f"""\
from torchvision.models import {source.arch}

net = {source.arch}()
net.conv1 = torch.nn.Conv2d({source.chans}, 64, 7, stride=2, padding=3, bias=False)
net.fc = torch.nn.Identity()
net.load_state_dict(torch.load("{file}", weights_only=True))
net.eval()
features = net(net_input(raw, transform)[None])"""
    return {file: _saved(_contiguous(to_published(source.arch, source.tensors)))}, usage


def _timm(source: Source) -> tuple[Content, str]:
    """Write a folder like those of model hubs, which timm opens itself.

    The config has no `first_conv`: given its name, timm would replace a first convolution that does
    not have three channels by a random one.
    """
    side = source.transform["size"]
    config = {
        "architecture": ARCHITECTURES[source.arch].timm,
        "num_classes": 0,
        "model_args": {"in_chans": source.chans, **_any_size(source.arch)},
        "pretrained_cfg": {
            "input_size": [source.chans, side, side],
            "num_classes": 0,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": source.transform["mean"],
            "std": source.transform["std"],
        },
    }
    usage = f"""\
import timm

net = timm.create_model("local-dir:.", pretrained=True).eval()
{_timm_features(source.arch)}"""
    return _hub(to_published(source.arch, source.tensors), config), usage


def _torchgeo(source: Source) -> tuple[Content, str]:
    """Write a file whose name ends in the first digits of its SHA-256, as TorchGeo's do."""
    saved = _saved(_contiguous(to_published(source.arch, source.tensors)))
    file = f"{source.stem}-{hashlib.sha256(saved).hexdigest()[:8]}.pth"
    more = "".join(f", {key}={value}" for key, value in _any_size(source.arch).items())
    maker = ARCHITECTURES[source.arch].timm
    usage = f"""\
from functools import partial
from pathlib import Path

from torchgeo.models import {maker}
from torchvision.models._api import Weights, WeightsEnum


class DeCURWeights(WeightsEnum):
    HERE = Weights(
        url=Path("{file}").resolve().as_uri(),
        transforms=partial(net_input, transform=transform),
        meta={{"in_chans": {source.chans}, "bands": transform["bands"]}},
    )


net = {maker}(weights=DeCURWeights.HERE, num_classes=0{more}).eval()
{_timm_features(source.arch)}"""
    return {file: saved}, usage


def _any_size(arch: str) -> dict[str, bool]:
    """Return the options with which timm takes images of any size, as we do."""
    return {"dynamic_img_size": True} if ARCHITECTURES[arch].family == "vit" else {}


def _timm_features(arch: str) -> str:
    """Write code for timm's own features or, for a vision transformer, the mean of the patches."""
    known = ARCHITECTURES[arch]
    if known.family != "vit" or known.mean_pooled is not None:
        return "features = net(net_input(raw, transform)[None])"
    return "features = net.forward_features(net_input(raw, transform)[None])[:, 1:].mean(dim=1)"


def _safetensors(source: Source) -> tuple[Content, str]:
    config = {
        "model_type": "decur",
        "arch": source.arch,
        "in_chans": source.chans,
        "modality": source.transform["modality"],
    }
    usage = f"""\
from decur.weights import load_backbone
from safetensors.torch import load_file

tensors = load_file("model.safetensors")
net = load_backbone(tensors, arch="{source.arch}", in_chans={source.chans}).eval()
features = net(net_input(raw, transform)[None])"""
    return _hub(source.tensors, config), usage


def _cmx(source: Source) -> tuple[Content, str]:
    """Write one stream of CMX, whose code reads three bands in reversed order."""
    tensors = dict(source.tensors)
    if source.chans == 3:
        first = first_convolution(tensors)
        tensors[first] = tensors[first].flip(1).contiguous()
    stream = ["first", "second"][source.branch]
    usage = f"""\
stream = torch.load("{source.stem}.pth", weights_only=True)

# For CMX's code, whose own loader would give both streams the same weights. This file is for the
# {stream} stream. CMX reads images blue before red, and so does this first convolution.
# model.backbone.load_state_dict(stream, strict=False)"""
    return {f"{source.stem}.pth": _saved(_contiguous(to_cmx(tensors, source.branch)))}, usage


def _write_released(
    path: Path,
    tensors: Tensors,
    record: Weights,
    out: Path,
    modality: str | None,
    licence: str,
) -> list[Path]:
    """Write both backbones as in the authors' files; the record describes each modality."""
    if modality is not None:
        raise DecurError(
            f"--modality {modality}: {RELEASED_FORMAT} contains both modalities; leave it out"
        )
    modalities_of(path, tensors, record)
    model = _contiguous(joint_tensors(path, tensors, record))
    settings = record.provenance.settings
    by_modality = {name: recorded(record, name) for name in settings["modalities"]}
    stem = "_".join([settings["arch"], settings["dataset"], "joint", settings["method"]])
    text = card.render_joint(record, by_modality, file=f"{stem}.pth", licence=licence)
    content = {f"{stem}.pth": _saved({"model": model}), "README.md": text.encode()}
    listing = out / "preprocessing.json"
    described = {
        name: {**transform, "linear": linear(transform)} for name, transform in by_modality.items()
    }
    write_with_record(listing, described, {out / name: data for name, data in content.items()})
    return [*(out / name for name in content), listing]


def _hub(tensors: Tensors, config: Mapping[str, Any]) -> Content:
    return {
        "model.safetensors": save(_contiguous(tensors), metadata={"format": "pt"}),
        "config.json": (json.dumps(config, indent=1) + "\n").encode(),
    }


def _saved(tree: Tensors | dict[str, Tensors]) -> bytes:
    file = io.BytesIO()
    torch.save(tree, file)
    return file.getvalue()


def _contiguous(tensors: Tensors) -> Tensors:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


SINGLE = {
    "torchvision": Format("torchvision", _torchvision),
    "timm": Format("timm", _timm),
    "torchgeo": Format("torchgeo", _torchgeo),
    "safetensors": Format("decur", _safetensors),
    "cmx": Format("decur", _cmx),
}
"""The formats of one backbone, by the library or code that reads it."""

FORMATS = (*SINGLE, RELEASED_FORMAT)
