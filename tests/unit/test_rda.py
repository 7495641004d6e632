"""Residual deformable attention: against its definition, at any size, and in training."""

import math
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decur.config import ScenarioSettings, apply_variant
from decur.models import build_backbone
from decur.models.rda import GROUP, HEAD, DeformableAttention
from decur.models.resnet import DeformableResNet
from decur.pretrain.loop import train_run
from decur.weights import branch_weights, load_backbone, read_weights
from tests.support.pretraining import settings

Array = NDArray[np.float64]


def attention(
    dim: int = 256, stride: int = 2, kernel: int = 5, side: int = 14
) -> DeformableAttention:
    """In float64, every parameter unlike its initial value."""
    torch.manual_seed(0)
    module = DeformableAttention(dim, stride=stride, kernel=kernel, side=side).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2 / math.sqrt(max(parameter.shape[0] // 64, 1)))
    return module


def read_at(image: Array, row: float, column: float) -> Array:
    """Bilinear value of `(C, H, W)` at a place counted in pixels: `(C,)`."""
    found = np.zeros(len(image))
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            found += image[:, i, j] * max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
    return found


def linear(conv: nn.Conv2d, x: Array) -> Array:
    """A 1x1 convolution of a vector."""
    assert conv.bias is not None
    weight, bias = conv.weight.detach().numpy()[:, :, 0, 0], conv.bias.detach().numpy()
    return cast(Array, weight @ x + bias)


def definition(module: DeformableAttention, x: Array, offsets: Array) -> Array:
    """The attention of one image `(C, H, W)`, place by place; offsets `(groups, 2, h, w)`."""
    dim, height, width = x.shape
    rows, columns = offsets.shape[2:]
    table = module.rpe_table.detach().numpy()
    out = np.zeros_like(x)
    points = np.zeros((module.groups, rows, columns, 2))
    context = np.zeros((dim, rows, columns))
    for g in range(module.groups):
        channels = slice(g * GROUP, (g + 1) * GROUP)
        for r in range(rows):
            for c in range(columns):
                grid = [(r + 0.5) / (rows - 1) * 2 - 1, (c + 0.5) / (columns - 1) * 2 - 1]
                y, z = np.clip(np.add(grid, offsets[g, :, r, c]), -1, 1)
                points[g, r, c] = y, z
                place = (y + 1) / 2 * (height - 1), (z + 1) / 2 * (width - 1)
                context[channels, r, c] = read_at(x[channels], *place)
    for i in range(height):
        for j in range(width):
            query = linear(module.proj_q, x[:, i, j])
            pixel = np.array([i / (height - 1) * 2 - 1, j / (width - 1) * 2 - 1])
            mixed = np.zeros(dim)
            for h in range(module.heads):
                part, g = slice(h * HEAD, (h + 1) * HEAD), h // (module.heads // module.groups)
                scores, values = [], []
                for r in range(rows):
                    for c in range(columns):
                        key = linear(module.proj_k, context[:, r, c])[part]
                        values.append(linear(module.proj_v, context[:, r, c])[part])
                        shift = (pixel - points[g, r, c]) / 2
                        at = (shift + 1) / 2 * (table.shape[1] - 1)
                        bias = read_at(table[h : h + 1], *at)[0]
                        scores.append(query[part] @ key / math.sqrt(HEAD) + bias)
                weights = np.exp(scores) / np.exp(scores).sum()
                mixed[part] = weights @ np.array(values)
            out[:, i, j] = linear(module.proj_out, mixed)
    return out


def offsets_of(module: DeformableAttention, x: Tensor) -> Tensor:
    """As the module's convolutions see them: `(groups, 2, h, w)`."""
    queries = module.proj_q(x[None])
    found: Tensor = module.conv_offset(queries.reshape(module.groups, GROUP, *x.shape[1:]))
    return found.detach()


@pytest.mark.parametrize("still", [True, False], ids=["on the grid", "moved"])
@pytest.mark.parametrize("size", [(4, 5), (5, 4)])
def test_attention_equals_its_definition(still: bool, size: tuple[int, int]) -> None:
    module = attention(dim=512, side=5)
    if still:
        nn.init.zeros_(cast(nn.Conv2d, module.conv_offset[3]).weight)
    x = torch.randn(512, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    offsets = offsets_of(module, x)
    assert (offsets == 0).all() if still else offsets.abs().max() > 0.3
    expected = definition(module, x.numpy(), offsets.numpy())
    found = module(x[None])[0].detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_points_stay_within_the_map_and_each_group_has_its_own() -> None:
    module = attention(dim=512)
    cast(nn.Conv2d, module.conv_offset[3]).weight.data *= 100
    points = module.points(module.proj_q(torch.randn(3, 512, 14, 14, dtype=torch.float64)))
    assert points.shape == (3 * 2, 7, 7, 2)
    assert points.abs().max() == 1
    first, second = points.unflatten(0, (3, 2)).unbind(1)
    assert not torch.allclose(first, second)


def test_images_of_a_batch_do_not_see_one_another() -> None:
    module = attention(dim=512)
    x = torch.randn(3, 512, 6, 6, dtype=torch.float64)
    alone = torch.cat([module(image[None]) for image in x])
    torch.testing.assert_close(module(x), alone)


def test_a_smooth_table_says_the_same_of_a_map_of_twice_the_size() -> None:
    """The bias depends on the displacement as a share of the map, not on pixels."""
    module = attention(dim=256, side=7)
    line = torch.linspace(-1, 1, 13, dtype=torch.float64)
    module.rpe_table.data = (line[:, None] + 2 * line).expand(2, -1, -1).clone()
    points = torch.tensor([[-1.0, 1.0], [0.25, 0.5]], dtype=torch.float64).view(1, 1, 2, 2)
    small = module.bias(points, torch.Size((7, 7)))[0, 0].unflatten(0, (7, 7))
    large = module.bias(points, torch.Size((13, 13)))[0, 0].unflatten(0, (13, 13))
    torch.testing.assert_close(large[::2, ::2], small)
    assert small[0, 0, 0].item() == pytest.approx(
        2 * -1
    )  # no rows away, and the whole map to the left


RESNET50_PARAMETERS = 23_508_032
"""Of torchvision, without its classifier."""


def test_parameters_are_those_of_the_released_files() -> None:
    """Names as there; sizes as of the published files, 178 MB of one branch and 961 MB of both."""
    with torch.device("meta"):
        tensors = build_backbone("resnet50_rda", 3).state_dict()
    added = {name: tuple(t.shape) for name, t in tensors.items() if name.startswith("da_")}
    expected = {}
    for layer, dim, kernel, side in (("da_l3", 1024, 5, 14), ("da_l4", 2048, 3, 7)):
        expected |= {
            f"{layer}.rpe_table": (dim // 128, 2 * side - 1, 2 * side - 1),
            f"{layer}.conv_offset.0.weight": (256, 1, kernel, kernel),
            f"{layer}.conv_offset.0.bias": (256,),
            f"{layer}.conv_offset.1.norm.weight": (256,),
            f"{layer}.conv_offset.1.norm.bias": (256,),
            f"{layer}.conv_offset.3.weight": (2, 256, 1, 1),
        }
        for name in ("q", "k", "v", "out"):
            expected[f"{layer}.proj_{name}.weight"] = (dim, dim, 1, 1)
            expected[f"{layer}.proj_{name}.bias"] = (dim,)
    assert added == expected
    size = 4 * sum(math.prod(shape) for shape in added.values())
    assert round((94_345_157 + size) / 1e6) == 178
    assert round((793_034_653 + 2 * size) / 1e6) == 961


def filled(arch: str, chans: int) -> DeformableResNet:
    torch.manual_seed(0)
    return cast(DeformableResNet, build_backbone(arch, chans).eval())


@pytest.mark.parametrize("side", [16, 32, 64, 96])
def test_without_its_output_the_attention_leaves_the_resnet(side: int) -> None:
    backbone = filled("resnet18_rda", 2)
    plain = build_backbone("resnet18", 2).eval()
    shared = {k: t for k, t in backbone.state_dict().items() if not k.startswith("da_")}
    plain.load_state_dict(shared)
    x = torch.rand(2, 2, side, side)
    assert not torch.allclose(backbone(x), plain(x))
    for attention in (backbone.da_l3, backbone.da_l4):
        nn.init.zeros_(attention.proj_out.weight)
        nn.init.zeros_(attention.proj_out.bias)
    torch.testing.assert_close(backbone(x), plain(x), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_any_size_gives_finite_features_and_gradients_in_either_precision(
    size: tuple[int, int],
) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        backbone = filled("resnet18_rda", 3).train()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            features = backbone(torch.rand(2, 3, *size))
        features.float().square().sum().backward()
        assert features.shape == (2, 512)
        for name, parameter in backbone.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (3, 1)])
def test_maps_of_few_pixels_have_finite_gradients(size: tuple[int, int]) -> None:
    module = attention(dim=256)
    x = torch.randn(2, 256, *size, dtype=torch.float64, requires_grad=True)
    module(x).square().sum().backward()
    assert x.grad is not None
    for gradient in (x.grad, *(parameter.grad for parameter in module.parameters())):
        assert gradient is not None
        assert gradient.isfinite().all()


def test_the_large_variant_is_of_one_backbone() -> None:
    chosen = settings(archs={"optical": "resnet18_rda"}, arch_large="mit_tiny")
    large = apply_variant(chosen, "large")
    assert [large.arch_of(name) for name in ("sar", "optical")] == ["mit_tiny"] * 2
    assert apply_variant(chosen, "default").arch_of("optical") == "resnet18_rda"


def test_offsets_learn_where_to_look() -> None:
    module = attention(dim=256, side=7)
    x = torch.randn(2, 256, 6, 6, dtype=torch.float64)
    module(x).square().sum().backward()
    gradient = cast(nn.Conv2d, module.conv_offset[3]).weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


@pytest.mark.slow
def test_a_run_may_have_it_in_one_modality_alone(shards_root, tmp_path) -> None:  # type: ignore[no-untyped-def]
    chosen = settings(
        arch="resnet18", archs={"optical": "resnet18_rda"}, epochs=1, crop=32, recompute="block"
    )
    written, metadata = read_weights(train_run(chosen, shards_root, tmp_path))
    assert metadata.provenance.settings["archs"] == {"optical": "resnet18_rda"}
    sar, optical = (branch_weights(written, branch) for branch in (0, 1))
    assert not any(name.startswith("da_") for name in sar)
    load_backbone(sar, arch="resnet18", in_chans=2)
    load_backbone(optical, arch="resnet18_rda", in_chans=3)
    before = filled("resnet18_rda", 3).state_dict()
    assert before.keys() == optical.keys()


def test_a_modality_that_is_none_has_no_backbone() -> None:
    tree = {
        "modalities": {"sar": "sar", "optical": "optical"},
        "pretrain": {"dataset": "pairs", "archs": {"dem": "resnet18_rda"}},
    }
    with pytest.raises(ValueError, match=r"pretrain\.archs: no modality 'dem'"):
        ScenarioSettings.model_validate(tree)
