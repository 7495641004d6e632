"""Grad-CAM and integrated gradients against plain autograd, and scores made of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from decur.errors import DecurError
from decur.explain.gradcam import cam_maps
from decur.explain.saliency import enlarged, overlap
from decur.explain.scene_factors import lift
from decur.explain.spectral import attributions
from decur.explain.targets import ImagePartMeans
from decur.models.two_branch import TwoBranch

PARTS = {"common": slice(0, 6), "unique": slice(6, 8)}


def subject(arch: str = "tiny") -> SimpleNamespace:
    torch.manual_seed(0)
    model = TwoBranch(arch, [2, 3], dim=8, layers=2).eval()
    return SimpleNamespace(model=model, parts=PARTS)


def images(channels: int = 3, side: int = 48) -> torch.Tensor:
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("arch", ["tiny", "resnet18", "mit_tiny", "vit_s16"])
def test_grad_cam_is_what_plain_autograd_gives_of_every_backbone(arch):
    whole, x = subject(arch), images()
    stage = whole.model.backbones[1].stages(x)[-1]
    z = whole.model.project(stage.mean(dim=(2, 3)), 1)
    torch.testing.assert_close(z, whole.model.embed(x, 1))
    expected = []
    for part in PARTS.values():
        (gradient,) = torch.autograd.grad(z[:, part].mean(dim=1).sum(), stage, retain_graph=True)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        expected.append((weights * stage).sum(dim=1).relu())
    found = cam_maps(whole, 1, x)
    torch.testing.assert_close(found, torch.stack(expected, dim=1).detach())
    assert not found.requires_grad and all(p.grad is None for p in whole.model.parameters())


def test_grad_cam_of_a_class_token_is_refused_and_integrated_gradients_are_not():
    whole, x = subject("vit_s16_token"), images()
    with pytest.raises(DecurError, match="class token, which does not depend on the last map"):
        cam_maps(whole, 1, x)
    z = whole.model.embed(x, 1)
    expected = torch.stack([z[:, part].mean(dim=1) for part in PARTS.values()], dim=1)
    torch.testing.assert_close(ImagePartMeans(whole, 1)(x), expected)


def test_integrated_gradients_are_what_plain_autograd_gives():
    model, x = ImagePartMeans(subject(), 1), images(side=16)
    nodes, weights = np.polynomial.legendre.leggauss(7)
    expected = torch.zeros_like(x)
    for node, weight in zip(nodes, weights, strict=True):
        point = ((1 + node) / 2 * x).requires_grad_()
        (gradient,) = torch.autograd.grad(model(point)[:, 1].sum(), point)
        expected += x * gradient * weight / 2
    torch.testing.assert_close(attributions(model, x, 1, 7), expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("target", [0, 1])
def test_integrated_gradients_add_up_to_the_difference_of_the_output_to_one_percent(target):
    model, x = ImagePartMeans(subject(), 1), images(side=32)
    with torch.no_grad():
        difference = (model(x) - model(torch.zeros_like(x)))[:, target]
    total = attributions(model, x, target, 50).sum(dim=(1, 2, 3))
    torch.testing.assert_close(total, difference, atol=0, rtol=0.01)


def test_a_map_scores_highest_with_itself_and_the_score_is_symmetric_and_has_no_scale():
    maps = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0))
    own, moved = overlap(maps, maps), overlap(maps, maps.flip(-1))
    assert (own > moved).all()
    torch.testing.assert_close(moved, overlap(maps.flip(-1), maps))
    torch.testing.assert_close(overlap(7 * maps, maps), own, atol=1e-6, rtol=0)


def test_maps_that_share_nothing_score_zero_and_equal_halves_one_half():
    left = torch.zeros(4, 4)
    left[:, :2] = 0.3
    assert float(overlap(left, left.flip(1))) == 0
    assert float(overlap(left, left)) == 0.5


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_map_that_is_the_same_everywhere_scores_zero_and_never_nan(value):
    flat, other = torch.full((4, 4), value), torch.rand(4, 4)
    assert float(overlap(flat, other)) == float(overlap(flat, flat)) == 0


def test_the_score_is_that_of_the_released_recipe():
    rng = np.random.default_rng(0)
    maps = rng.uniform(size=(2, 3, 3)) * (rng.uniform(size=(2, 3, 3)) > 0.3)
    logs = [np.log10(m + 1e-20) for m in maps]
    first, second = ((m - m.min()) / (m.max() - m.min()) for m in logs)
    expected = float((first * second).mean())
    assert float(overlap(*torch.from_numpy(maps))) == pytest.approx(expected, rel=1e-9)


def test_maps_are_enlarged_without_moving():
    small = torch.zeros(1, 1, 2, 2)
    small[..., 0, 1] = 1
    large = enlarged(small, 8)[0, 0]
    assert large.shape == (8, 8) and large[0, 7] == 1 and float(large[4:, :4].max()) < 0.2


def test_lift_is_the_share_of_saliency_inside_an_area_over_the_areas_share():
    effect = np.zeros((2, 8, 8), dtype=np.float32)
    effect[:, :, :2] = 5  # a quarter of the image
    inside = np.zeros((8, 8))
    inside[:, :2] = 1
    assert lift(inside, effect) == pytest.approx(4)
    assert lift(1 - inside, effect) == 0
    assert lift(np.ones((8, 8)), effect) == pytest.approx(1)
    assert lift(0.5 * inside + 0.5 * np.roll(inside, 4, axis=1), effect) == pytest.approx(2)
    assert np.isnan(lift(np.zeros((8, 8)), effect)) and np.isnan(lift(inside, 0 * effect))
    assert lift(np.ones((4, 4)), effect) == pytest.approx(1)
