"""Files of the names and shapes of the authors' released ones, made small."""

from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

from decur.models import build_backbone

Tensors = dict[str, Tensor]


def disturbed(tensors: Tensors, seed: int = 0) -> Tensors:
    """Values unlike any initialisation, with which a network still computes finite features."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: t + 0.02 * (torch.rand(t.shape, generator=generator) - 0.5)
        if t.is_floating_point()
        else t
        for name, t in tensors.items()
    }


def their_net(arch: str, chans: int) -> nn.Module:
    """A network of another library, without its classifier, whose names the files have."""
    torch.manual_seed(0)
    if arch == "vit_s16":
        net: nn.Module = timm.create_model("vit_small_patch16_224", in_chans=chans, num_classes=0)
    else:
        resnet = {"resnet18": resnet18, "resnet50": resnet50}[arch]()
        resnet.conv1 = nn.Conv2d(chans, 64, 7, stride=2, padding=3, bias=False)
        resnet.fc = nn.Identity()
        net = resnet
    net.load_state_dict(disturbed(net.state_dict()))
    return net.eval()


def segformer(arch: str, chans: int) -> Tensors:
    """SegFormer's encoder under its own names."""
    torch.manual_seed(0)
    own = disturbed(build_backbone(arch, chans).state_dict())
    return {k.replace("mlp.dwconv.", "mlp.dwconv.dwconv."): t for k, t in own.items()}


def attention(arch: str, number: int) -> Tensors:
    """Deformable attention of a branch (1, 2) in a file."""
    torch.manual_seed(number)
    own = build_backbone(f"{arch}_rda", 3).state_dict()
    return {
        name.replace("da_", f"da{number}_"): t
        for name, t in disturbed(own, number).items()
        if name.startswith("da_")
    }


def projector(width: int, dim: int) -> Tensors:
    layers = []
    for before in (width, dim):
        layers += [nn.Linear(before, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU()]
    return disturbed(nn.Sequential(*layers, nn.Linear(dim, dim, bias=False)).state_dict())


def joint(backbones: list[Tensors], width: int, dim: int = 32, prefix: str = "module.") -> Tensors:
    """A joint file: two backbones, one projector saved twice, the last normalisation."""
    parts = {f"backbone_{i}": tensors for i, tensors in enumerate(backbones, start=1)}
    shared = projector(width, dim)
    parts |= {"projector1": shared, "projector2": shared}
    parts["bn"] = nn.BatchNorm1d(dim, affine=False).state_dict()
    return {f"{prefix}{part}.{k}": t for part, tensors in parts.items() for k, t in tensors.items()}


def save_checkpoint(path: Path, model: Tensors) -> Path:
    """As of 2023: with epoch and optimiser."""
    state = {i: {"mu": torch.rand(3)} for i in range(2)}
    groups = [{"lr": 0.2, "weight_decay": 1e-6, "params": [0, 1]}]
    optimizer = {"state": state, "param_groups": groups}
    torch.save({"epoch": 100, "model": model, "optimizer": optimizer}, path)
    return path


def saved(path: Path, tensors: object) -> Path:
    """Save anything as PyTorch does."""
    torch.save(tensors, path)
    return path


def rda_joint() -> Tensors:
    """A joint file of the later version, with deformable attention."""
    nets = [their_net("resnet18", chans).state_dict() for chans in (2, 13)]
    whole = joint(nets, 512)
    for number in (1, 2):
        whole |= {f"module.{k}": t for k, t in attention("resnet18", number).items()}
    return whole
