"""Backbone weights in and out, as safetensors: no code is ever run by loading them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save_file
from torch import Tensor

from decur.errors import DecurError
from decur.files import write_atomically
from decur.models.backbones import Backbone, build_backbone
from decur.models.two_branch import TwoBranch


def save_model(path: Path, model: TwoBranch, metadata: Mapping[str, Any]) -> None:
    """Write both backbones and the projector(s) with JSON metadata in the header."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    header = {key: json.dumps(value) for key, value in metadata.items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=header))


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a weights file, and its metadata.

    Raises:
        DecurError: the file is missing or is not a readable safetensors file.
    """
    if not path.is_file():
        raise DecurError(f"{path}: no such weights file; run the pretrain stage first")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise DecurError(f"{path}: not a readable weights file ({error})") from None
    return tensors, metadata


def branch_weights(tensors: Mapping[str, Tensor], branch: int) -> dict[str, Tensor]:
    """The backbone of one branch, under the names of the plain backbone."""
    prefix = f"backbones.{branch}."
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def load_backbone(
    weights: Path | str | Mapping[str, Tensor], *, arch: str, in_chans: int
) -> Backbone:
    """A backbone with the given weights (a file, or tensors by name).

    Raises:
        DecurError: naming the first parameter that is missing, left over or of another shape.
    """
    backbone = build_backbone(arch, in_chans)
    given = weights if isinstance(weights, Mapping) else read_weights(Path(weights))[0]
    where = "weights" if isinstance(weights, Mapping) else str(weights)
    fill_backbone(backbone, given, where, arch=arch, in_chans=in_chans)
    return backbone


def fill_backbone(
    backbone: Backbone, given: Mapping[str, Tensor], where: str, *, arch: str, in_chans: int
) -> None:
    """Set all parameters and buffers of a backbone; errors call it by `arch` and `in_chans`.

    Raises:
        DecurError: naming `where` and the first tensor that is missing, left over or of another
            shape; the backbone is as it was.
    """
    for name, parameter in backbone.state_dict().items():
        if name not in given:
            raise DecurError(f"{where}: '{name}' of {arch} is missing; is it another backbone?")
        if given[name].shape != parameter.shape:
            raise DecurError(
                f"{where}: '{name}' is {tuple(given[name].shape)}, {arch} with {in_chans} "
                f"channels needs {tuple(parameter.shape)}"
            )
    extra = sorted(set(given) - set(backbone.state_dict()))
    if extra:
        raise DecurError(f"{where}: '{extra[0]}' is not part of {arch}; is it another backbone?")
    backbone.load_state_dict(given)
