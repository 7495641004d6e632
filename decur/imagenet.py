"""Files of ImageNet weights, as their publishers name the tensors, into a backbone.

torchvision's ResNets, timm's vision transformer, and SegFormer's encoder under its own names or
those of `transformers`' files. Only tensors are read: code in a file is never run.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from decur.errors import DecurError
from decur.models.backbone import Backbone
from decur.models.backbones import VisionTransformer
from decur.models.mit import MixTransformer
from decur.weights import fill_backbone

CLASSIFIERS = ("fc.", "head.", "classifier.")

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
"""SegFormer's one name that differs from ours, then those of `transformers`; applied in order."""


def load_imagenet(backbone: Backbone, path: Path, *, arch: str) -> None:
    """Fill a backbone from a file of its ImageNet weights.

    A first convolution of other than three channels is adapted as timm does: one channel takes the
    sum of the three kernels, more of them repeat red, green and blue, scaled by 3 / channels.

    Raises:
        DecurError: the file is missing, unreadable or of another architecture.
    """
    own = backbone.state_dict()
    published = read_tensors(path)
    kept = {name: t for name, t in published.items() if not name.startswith(CLASSIFIERS)}
    given = _our_names(backbone, kept)
    for name, tensor in own.items():
        if name.endswith("num_batches_tracked"):  # not in older files, and of no effect
            given.setdefault(name, tensor)
    first = next(name for name, tensor in own.items() if tensor.ndim == 4)
    in_chans = own[first].shape[1]
    if first in given:
        given[first] = _adapted(given[first], in_chans)
    fill_backbone(backbone, given, str(path), arch=arch, in_chans=in_chans)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a state dict that `torch.save` wrote.

    Raises:
        DecurError: the file is missing, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise DecurError(
            f"{path}: no such file of ImageNet weights; correct its path in the config"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tree: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of damaged files torch raises anything, with pages of advice
        raise DecurError(
            f"{path}: cannot be read as tensors alone ({type(error).__name__}; code in it is never "
            "run); fetch it again, or save its state dict anew"
        ) from None
    for wrapper in ("state_dict", "model"):
        if isinstance(tree, dict):
            tree = tree.get(wrapper, tree)
    if not isinstance(tree, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tree.items()
    ):
        raise DecurError(
            f"{path}: not a state dict of tensors by name; save the model's state dict"
        )
    return tree


def _our_names(backbone: Backbone, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(backbone, MixTransformer):
        return _from_segformer(given)
    if isinstance(backbone, VisionTransformer):
        return {f"vit.{name}": tensor for name, tensor in given.items()}
    return dict(given)


def _from_segformer(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for published in sorted(given):  # keys come before values, which ours has in one layer
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


def _adapted(kernel: Tensor, in_chans: int) -> Tensor:
    if kernel.ndim != 4 or kernel.shape[1] != 3:
        return kernel
    from timm.models import adapt_input_conv  # costs a second, which no other run should pay

    return adapt_input_conv(in_chans, kernel)
