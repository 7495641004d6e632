"""Translate tensor names between our files and published ones, as pure functions."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from decur.config.architectures import find_architecture

Tensors = dict[str, Tensor]

CLASSIFIERS = ("fc.", "head.", "classifier.")
ATTENTION = ("da_l3.", "da_l4.")
"""Prefixes of the parts that `rda` adds to a ResNet."""

SEGFORMER = {
    "mlp.dwconv.dwconv.": "mlp.dwconv.",
    "segformer.": "",
    "encoder.": "",
    "patch_embeddings.": "patch_embed.",
    "attention.self.query.": "attn.q.",
    "attention.self.key.": "attn.k.",
    "attention.self.value.": "attn.v.",
    "attention.self.": "attn.",
    "attention.output.dense.": "attn.proj.",
    "layer_norm_": "norm",
    "layer_norm.": "norm.",
    "mlp.dense": "mlp.fc",
}
"""Replacements of names, applied in order: SegFormer's only one, then those of `transformers`."""


def from_published(arch: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Rename a backbone's tensors from torchvision, timm, SegFormer or `transformers` to our names.

    Classifiers are left out.
    """
    kept = {name: t for name, t in tensors.items() if not name.startswith(CLASSIFIERS)}
    return naming_of(arch).to_ours(kept)


def to_published(arch: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Rename a backbone's tensors as torchvision or timm (ResNets), timm (ViTs) or SegFormer do."""
    return naming_of(arch).to_theirs(tensors)


def to_cmx(tensors: Mapping[str, Tensor], stream: int) -> Tensors:
    """Rename a Mix Transformer's tensors as the first or second stream (0, 1) of CMX's code."""
    prefix = "extra_" if stream else ""
    return _renamed(_to_segformer(tensors), lambda name: prefix + name)


def first_convolution(backbone: Mapping[str, Tensor]) -> str:
    """Find the name of the kernel that takes a backbone's bands, in our or published names."""
    names = [known.first for known in NAMINGS.values()]
    return next(n for key in names for n in (key, f"vit.{key}") if n in backbone)


@dataclass(frozen=True)
class ReleasedParts:
    """The parts of a released file, each under the names of its network.

    There are backbones and heads of both branches, or only one backbone. A shared projector
    appears once. `branch` is the branch that a single backbone's names indicate, if they do.
    """

    backbones: tuple[Tensors, ...]
    heads: tuple[Tensors, ...] = ()
    projectors: tuple[Tensors, ...] = ()
    branch: int | None = None


def released_parts(tensors: Mapping[str, Tensor]) -> ReleasedParts:
    """Split a released file into its networks, with or without the prefix of parallel training.

    In a joint file with deformable attention both branches get `da1`, because the released training
    used it for both: `da2` was saved but never trained. In a file that this package exported, each
    backbone contains its own attention.
    """
    tensors = _renamed(tensors, lambda name: name.removeprefix("module."))
    if not any(name.startswith("backbone_1.") for name in tensors):
        return _single(tensors)
    backbones = [below(tensors, f"backbone_{number}.") for number in (1, 2)]
    attention = _attention(tensors, 1)
    heads = [below(backbone, "head.") for backbone in backbones]
    projectors = [below(tensors, f"projector{number}.") for number in (1, 2)]
    return ReleasedParts(
        tuple({**attention, **backbone} for backbone in backbones),
        tuple(head for head in heads if head),
        tuple(projectors[:1] if _equal(*projectors) else projectors) if projectors[0] else (),
    )


def to_released(parts: ReleasedParts) -> Tensors:
    """Combine two networks into a joint file: the inverse of `released_parts`.

    Attention is stored twice, under the names that the authors' scripts read and within the
    backbones. The copies within the backbones mark a file of ours, in which the second branch's
    attention is trained. A shared projector is stored under both names. The last normalisation has
    its initial values, because this package collects no statistics for it.
    """
    networks: dict[str, Tensors] = {}
    for number, backbone in enumerate(parts.backbones, start=1):
        networks[f"backbone_{number}."] = backbone
        for prefix in ATTENTION:
            networks[prefix.replace("da_", f"da{number}_")] = below(backbone, prefix)
    for number, head in enumerate(parts.heads, start=1):
        networks[f"backbone_{number}.head."] = head
    if parts.projectors:
        networks |= {"projector1.": parts.projectors[0], "projector2.": parts.projectors[-1]}
        dim = [t for t in parts.projectors[0].values() if t.ndim == 2][-1].shape[0]
        networks["bn."] = dict(nn.BatchNorm1d(dim, affine=False).state_dict())
    return {
        f"module.{outside}{name}": tensor
        for outside, network in networks.items()
        for name, tensor in network.items()
    }


def _single(tensors: Mapping[str, Tensor]) -> ReleasedParts:
    inside = below(tensors, "backbone.")
    for number in (1, 2):
        if attention := _attention(tensors, number):
            return ReleasedParts(({**inside, **attention},), branch=number - 1)
    return ReleasedParts((inside or dict(tensors),))


def _attention(tensors: Mapping[str, Tensor], number: int) -> Tensors:
    found: Tensors = {}
    for prefix in ATTENTION:
        theirs = prefix.replace("da_", f"da{number}_")
        found |= {prefix + name: t for name, t in below(tensors, theirs).items()}
    return found


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[k]) for k, t in one.items())


def below(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """Select the tensors whose names begin with a prefix, and remove the prefix."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _renamed(tensors: Mapping[str, Tensor], rename: Callable[[str], str]) -> Tensors:
    return {rename(name): tensor for name, tensor in tensors.items()}


def _from_segformer(given: Mapping[str, Tensor]) -> Tensors:
    renamed: Tensors = {}
    for published in sorted(given):  # keys come before values; our names have both in one layer
        name = published
        for theirs, ours in SEGFORMER.items():
            name = name.replace(theirs, ours)
        name = re.sub(r"^(patch_embed|block|norm)\.(\d)", _numbered_from_one, name)
        name = re.sub(r"attn\.[kv]\.", "attn.kv.", name)
        tensor = given[published]
        renamed[name] = torch.cat([renamed[name], tensor]) if name in renamed else tensor
    return renamed


def _numbered_from_one(match: re.Match[str]) -> str:
    return f"{match[1]}{int(match[2]) + 1}"


def _to_segformer(given: Mapping[str, Tensor]) -> Tensors:
    return _renamed(given, lambda name: name.replace("mlp.dwconv.", "mlp.dwconv.dwconv."))


def _from_timm(given: Mapping[str, Tensor]) -> Tensors:
    return _renamed(given, lambda name: f"vit.{name}")


def _to_timm(given: Mapping[str, Tensor]) -> Tensors:
    return _renamed(given, lambda name: name.removeprefix("vit."))


@dataclass(frozen=True)
class Naming:
    """How published files name the tensors of a family of backbones.

    `first` is their name of the kernel that takes the bands; the functions translate all names.
    """

    first: str = ""
    to_ours: Callable[[Mapping[str, Tensor]], Tensors] = dict
    to_theirs: Callable[[Mapping[str, Tensor]], Tensors] = dict


NAMINGS = {
    "resnet": Naming("conv1.weight"),
    "mit": Naming("patch_embed1.proj.weight", _from_segformer, _to_segformer),
    "vit": Naming("patch_embed.proj.weight", _from_timm, _to_timm),
}
"""By family of the registry of architectures; other families are published under our names."""


def naming_of(arch: str) -> Naming:
    """Look up how published files name the tensors of an architecture.

    Raises:
        DecurError: an unknown architecture.
    """
    return NAMINGS.get(find_architecture(arch).family, Naming())
