"""Read and write weights files, ours and those of others, without ever running code in them."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from decur.artifacts.files import check_readable
from decur.artifacts.ownership import write_ours
from decur.artifacts.records import Weights
from decur.errors import DecurError
from decur.models.backbone import Backbone
from decur.models.backbones import build_backbone
from decur.models.two_branch import TwoBranch


def save_model(path: Path, model: TwoBranch, record: Weights) -> None:
    """Write both backbones and the projector(s) with their record in the header.

    Raises:
        DecurError: the file exists and is not ours.
    """
    save_weights(path, model.state_dict(), record)


def save_weights(path: Path, tensors: Mapping[str, Tensor], record: Weights) -> None:
    """Write tensors by name as safetensors, with the record in the header (JSON for each key).

    Raises:
        DecurError: the file exists and is not ours.
    """
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    header = {key: json.dumps(value) for key, value in record.dump().items()}
    write_ours(path, lambda temporary: save_file(whole, temporary, metadata=header), is_weights)


def is_weights(path: Path) -> bool:
    """Check whether a file contains weights that this package wrote."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return "provenance" in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return False


def read_weights(path: Path) -> tuple[dict[str, Tensor], Weights]:
    """Read all tensors of a weights file of ours, and its record.

    Raises:
        DecurError: the file is missing or is not a readable safetensors file.
    """
    if not path.is_file():
        raise DecurError(f"{path}: no such weights file; run the pretrain stage first")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        record = Weights.read(path)
    except (OSError, safetensors.SafetensorError, json.JSONDecodeError) as error:
        check_readable(path)
        raise DecurError(
            f"{path}: not a readable weights file ({error}); use a weights.safetensors, or delete "
            "a damaged one and run the pretrain stage again"
        ) from None
    return tensors, record


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of any .safetensors file, or of a state dict that `torch.save` wrote.

    The state dict may be the `state_dict` or `model` of a checkpoint. Other content of the
    checkpoint is not read from disk.

    Raises:
        DecurError: the file is missing, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise DecurError(f"{path}: no such file of weights; correct its path")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mapped = zipfile.is_zipfile(path)  # torch's older format cannot be mapped
        tree: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises many errors at damaged files, with pages of advice
        check_readable(path)
        raise DecurError(
            f"{path}: cannot be read as tensors only ({type(error).__name__}; code in it is never "
            "run); fetch it again, or save its state dict again"
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


def branch_weights(tensors: Mapping[str, Tensor], branch: int) -> dict[str, Tensor]:
    """Select the backbone of one branch, under the names of the plain backbone."""
    prefix = f"backbones.{branch}."
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def modalities_of(path: Path, tensors: Mapping[str, Tensor], record: Weights) -> dict[str, int]:
    """List the modalities of the backbones in a weights file, with their branches.

    Raises:
        DecurError: the file does not record what its backbones are.
    """
    try:
        names = list(record.provenance.settings["modalities"])
        held = {names[branch]: branch for branch in branches_of(tensors)}
        if set(held) <= set(record.bands):
            return held
    except (KeyError, TypeError, IndexError):
        pass
    raise DecurError(
        f"{path}: has no record of its backbones; use weights that `decur pretrain` or "
        "`decur weights import` wrote"
    )


def recorded_arch(record: Weights, modality: str) -> str | None:
    """Look up the architecture of a modality's backbone in a weights file's record, if any."""
    settings = record.provenance.settings
    found: str | None = settings.get("archs", {}).get(modality, settings.get("arch"))
    return found


def load_backbone(
    weights: Path | str | Mapping[str, Tensor],
    *,
    arch: str,
    in_chans: int,
    branch: int | None = None,
) -> Backbone:
    """Build a backbone with the given weights: a plain backbone's tensors by name, or a file.

    `branch` selects a backbone of a file with both; a file with a single backbone needs none.

    Raises:
        DecurError: the first parameter that is missing, left over or of another shape, or a file
            of two backbones without a choice.
    """
    backbone = build_backbone(arch, in_chans)
    where = "weights" if isinstance(weights, Mapping) else str(weights)
    given = weights if isinstance(weights, Mapping) else read_weights(Path(weights))[0]
    branches = branches_of(given)
    if branch is None and len(branches) > 1:
        raise DecurError(f"{where}: has two backbones; set `branch` to 0 or 1")
    if branches:
        given = branch_weights(given, branches[0] if branch is None else branch)
    fill_backbone(backbone, given, where, arch=arch, in_chans=in_chans)
    return backbone


def branches_of(tensors: Mapping[str, Tensor]) -> list[int]:
    """List the branches whose backbones a file of ours contains."""
    return sorted({int(name.split(".")[1]) for name in tensors if name.startswith("backbones.")})


def fill_backbone(
    backbone: Backbone, given: Mapping[str, Tensor], where: str, *, arch: str, in_chans: int
) -> None:
    """Set all parameters and buffers of a backbone; `arch` and `in_chans` are for error messages.

    Raises:
        DecurError: naming `where` and the first tensor that is missing, left over or of another
            shape; the backbone is unchanged.
    """
    for name, parameter in backbone.state_dict().items():
        if name not in given:
            raise DecurError(f"{where}: '{name}' of {arch} is missing; check the architecture")
        if given[name].shape != parameter.shape:
            raise DecurError(
                f"{where}: '{name}' is {tuple(given[name].shape)}, but {arch} with {in_chans} "
                f"channels needs {tuple(parameter.shape)}"
            )
    extra = sorted(set(given) - set(backbone.state_dict()))
    if extra:
        raise DecurError(f"{where}: '{extra[0]}' is not part of {arch}; check the architecture")
    backbone.load_state_dict(given)
