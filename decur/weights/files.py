"""Files of weights, ours and those of others: no code is ever run by reading them."""

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
    """Write tensors by name, as safetensors with the record, key by key as JSON, in the header.

    Raises:
        DecurError: the file exists and is not ours.
    """
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    header = {key: json.dumps(value) for key, value in record.dump().items()}
    write_ours(path, lambda temporary: save_file(whole, temporary, metadata=header), is_weights)


def is_weights(path: Path) -> bool:
    """Tell whether a file is one of weights that this package wrote."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return "provenance" in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return False


def read_weights(path: Path) -> tuple[dict[str, Tensor], Weights]:
    """All tensors of a weights file of ours, and its record.

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
            f"{path}: not a readable weights file ({error}); name a weights.safetensors, or delete "
            "a damaged one and run the pretrain stage again"
        ) from None
    return tensors, record


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of somebody's .safetensors file, or of a state dict that `torch.save` wrote.

    The state dict may lie within a checkpoint, as its `state_dict` or `model`; what else the
    checkpoint holds is not read from disk.

    Raises:
        DecurError: the file is missing, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise DecurError(f"{path}: no such file of weights; correct its path")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mapped = zipfile.is_zipfile(path)  # torch's older format cannot be
        tree: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # of damaged files torch raises anything, with pages of advice
        check_readable(path)
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


def branch_weights(tensors: Mapping[str, Tensor], branch: int) -> dict[str, Tensor]:
    """The backbone of one branch, under the names of the plain backbone."""
    prefix = f"backbones.{branch}."
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def modalities_of(path: Path, tensors: Mapping[str, Tensor], record: Weights) -> dict[str, int]:
    """The modalities whose backbones a weights file holds, each with its branch.

    Raises:
        DecurError: the file does not say what its backbones are.
    """
    try:
        names = list(record.provenance.settings["modalities"])
        held = {names[branch]: branch for branch in branches_of(tensors)}
        if set(held) <= set(record.bands):
            return held
    except (KeyError, TypeError, IndexError):
        pass
    raise DecurError(
        f"{path}: does not say what its backbones are; give weights that `decur pretrain` or "
        "`decur weights import` wrote"
    )


def recorded_arch(record: Weights, modality: str) -> str | None:
    """The architecture of a modality's backbone, if a weights file's record has it."""
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
    """A backbone with the given weights: a plain backbone's tensors by name, or a file.

    Of a file of both branches, `branch` says which; one that holds a single backbone needs none.

    Raises:
        DecurError: naming the first parameter that is missing, left over or of another shape, or
            a file of two backbones without a choice.
    """
    backbone = build_backbone(arch, in_chans)
    where = "weights" if isinstance(weights, Mapping) else str(weights)
    given = weights if isinstance(weights, Mapping) else read_weights(Path(weights))[0]
    branches = branches_of(given)
    if branch is None and len(branches) > 1:
        raise DecurError(f"{where}: holds two backbones; give `branch`, 0 or 1")
    if branches:
        given = branch_weights(given, branches[0] if branch is None else branch)
    fill_backbone(backbone, given, where, arch=arch, in_chans=in_chans)
    return backbone


def branches_of(tensors: Mapping[str, Tensor]) -> list[int]:
    """The branches whose backbones a file of ours holds."""
    return sorted({int(name.split(".")[1]) for name in tensors if name.startswith("backbones.")})


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
