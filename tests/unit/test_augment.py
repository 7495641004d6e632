from dataclasses import replace

import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tv

from decur.errors import DecurError
from decur.imagery.augment import (
    PRESETS,
    Augmentation,
    change_brightness_contrast,
    crop_resize,
    draw_boxes,
    gaussian_blur,
)

CHANNELS = {"optical": 13, "sar": 2, "rgb": 3, "dem": 1, "rgb-indoor": 3, "hha": 3}
CHANNELS |= {"image": 3, "measured": 2}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_batch(n: int, channels: int, height: int = 40, width: int = 40) -> torch.Tensor:
    shape = (n, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(1))


def only(**options: float) -> Augmentation:
    """Nothing but the given options: the crop is the whole image."""
    return Augmentation(**{"size": 8, "hflip": 0.0, "crop_scale": (1.0, 1.0), **options})


def whole_boxes(n: int, height: int, width: int) -> torch.Tensor:
    return torch.tensor([[0, 0, height, width]]).expand(n, 4)


@pytest.mark.parametrize("kind", list(PRESETS))
def test_a_preset_gives_float_views_that_its_generator_determines(kind):
    augment = replace(PRESETS[kind], size=24)
    batch = random_batch(16, CHANNELS[kind])
    first, again, other = (augment(batch, seeded(s)) for s in (5, 5, 6))
    assert first.shape == (16, CHANNELS[kind], 24, 24)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    if augment.mean is None:
        assert first.min() >= -1e-6
        assert first.max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", list(PRESETS))
def test_parts_of_a_batch_get_what_they_get_in_the_whole(kind):
    """So ranks that share a batch draw the views of one process."""
    augment = replace(PRESETS[kind], size=24, solarize=0.3)
    batch = random_batch(16, CHANNELS[kind])
    draws = augment.draw(16, 40, 40, seeded(5))
    parts = [augment.apply(batch[part], draws[part]) for part in (slice(0, 6), slice(6, 16))]
    torch.testing.assert_close(torch.cat(parts), augment(batch, seeded(5)), rtol=0, atol=1e-6)


def test_the_batch_is_not_changed():
    batch = random_batch(8, 3)
    before = batch.clone()
    replace(PRESETS["rgb"], size=40, solarize=0.5)(batch, seeded())
    assert torch.equal(batch, before)


def test_presets_do_what_the_paper_says():
    operations = {
        kind: {
            name
            for name in ("brightness_contrast", "gray", "blur", "solarize", "hflip", "vflip")
            if getattr(preset, name)
        }
        for kind, preset in PRESETS.items()
    }
    photometric = {"brightness_contrast", "gray", "blur"}
    assert operations == {
        "optical": photometric | {"hflip", "vflip"},
        "sar": {"gray", "blur", "hflip", "vflip"},
        "rgb": photometric | {"hflip", "vflip"},
        "dem": {"hflip", "vflip"},
        "rgb-indoor": photometric | {"hflip"},
        "hha": {"hflip"},
        "image": photometric | {"hflip"},  # of own data, of which the paper knows nothing
        "measured": {"hflip"},
    }
    assert {kind: preset.crop_scale[0] for kind, preset in PRESETS.items()} == {
        "optical": 0.2,
        "sar": 0.2,
        "rgb": 0.2,
        "dem": 0.2,
        "rgb-indoor": 0.5,
        "hha": 0.5,
        "image": 0.2,
        "measured": 0.2,
    }
    assert all(preset.size == 224 for preset in PRESETS.values())


def test_boxes_lie_inside_the_image_with_the_right_areas_and_aspects():
    height, width = 200, 300
    top, left, h, w = draw_boxes(20_000, height, width, (0.2, 1.0), seeded()).double().unbind(1)
    assert (top.min(), left.min()) == (0, 0)
    assert ((top + h) <= height).all()
    assert ((left + w) <= width).all()
    area = h * w / (height * width)
    assert 0.195 < area.min() < 0.21
    # Large, flat boxes fit less often, so only the lower half of the areas is uniform.
    below = [((area > 0.2 + a) & (area < 0.3 + a)).double().mean() for a in (0.0, 0.1, 0.2)]
    assert max(below) - min(below) < 0.015
    aspect = w / h
    assert 0.73 < aspect.min() < 0.76
    assert 1.32 < aspect.max() < 1.36
    small = area < 0.5
    # Uniform in (3/4, 4/3), inverted for half: the log is symmetric about 0.
    assert abs(aspect[small].log().mean()) < 0.01
    reach = (top / (height - h)).nan_to_num(0.5)
    assert abs(reach.mean() - 0.5) < 0.01


def test_a_box_that_never_fits_becomes_the_largest_centred_square():
    boxes = draw_boxes(5, 10, 100, (1.0, 1.0), seeded())
    assert boxes.tolist() == [[0, 45, 10, 10]] * 5


@pytest.mark.parametrize("size", [16, 24, 61])
def test_crop_and_resize_equal_torchvision_on_the_same_boxes(size):
    batch = random_batch(12, 3, 33, 47)
    boxes = draw_boxes(12, 33, 47, (0.1, 1.0), seeded(2))
    flips = torch.rand(12, 2, generator=seeded(3)) < 0.5
    ours = crop_resize(batch, boxes, flips, size)
    for image, box, (hflip, vflip), view in zip(
        batch.float(), boxes.tolist(), flips.tolist(), ours, strict=True
    ):
        bilinear = InterpolationMode.BILINEAR
        expected = tv.resized_crop(image, *box, [size, size], bilinear, antialias=False)
        expected = tv.horizontal_flip(expected) if hflip else expected
        expected = tv.vertical_flip(expected) if vflip else expected
        torch.testing.assert_close(view, expected, rtol=0, atol=2e-3)  # of 255


def test_flips_mirror_the_right_axis():
    batch = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(3, 1, 4, 4)
    flips = torch.tensor([[False, False], [True, False], [False, True]])
    plain, across, down = crop_resize(batch, whole_boxes(3, 4, 4), flips, 4).round().byte()
    assert torch.equal(plain, batch[0])
    assert torch.equal(across, batch[0].flip(-1))
    assert torch.equal(down, batch[0].flip(-2))


@pytest.mark.parametrize(("name", "axis"), [("hflip", -1), ("vflip", -2)])
def test_flips_come_at_their_rate(name, axis):
    ramp = torch.arange(8, dtype=torch.uint8)
    image = ramp.expand(8, 8) if axis == -1 else ramp[:, None].expand(8, 8)
    views = only(**{name: 0.3})(image.expand(4000, 1, 8, 8), seeded())
    start, end = (views.select(axis, i).mean((1, 2)) for i in (0, -1))
    assert (start > end).double().mean() == pytest.approx(0.3, abs=0.03)


def test_brightness_and_contrast_change_together_and_clip():
    batch = random_batch(3000, 1, 8, 8)
    views = only(brightness_contrast=0.8)(batch, seeded())
    changed = (views - batch / 255).abs().amax((1, 2, 3)) > 1e-5
    assert changed.double().mean() == pytest.approx(0.8, abs=0.03)
    x = torch.tensor([0.1, 0.3, 0.8]).view(1, 1, 1, 3)
    bright = change_brightness_contrast(x, torch.tensor([[1.5, 1.0]]))
    torch.testing.assert_close(bright.flatten(), torch.tensor([0.15, 0.45, 1.0]))
    contrasted = change_brightness_contrast(x, torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(contrasted.flatten(), torch.tensor([0.0, 0.2, 1.0]))


def test_gray_gives_every_channel_the_mean_of_all():
    batch = random_batch(2000, 13, 8, 8)
    views = only(gray=0.2)(batch, seeded())
    gray = (views == views[:, :1]).all(3).all(2).all(1)
    assert gray.double().mean() == pytest.approx(0.2, abs=0.03)
    mean = (batch / 255).mean(1, keepdim=True).expand_as(views)
    torch.testing.assert_close(views[gray], mean[gray])
    torch.testing.assert_close(views[~gray], (batch / 255)[~gray])


def test_blur_comes_at_its_rate_with_a_sigma_a_sample():
    batch = torch.zeros(2000, 1, 9, 9, dtype=torch.uint8)
    batch[:, :, 4, 4] = 255
    peaks = only(size=9, blur=0.5)(batch, seeded())[:, 0, 4, 4]
    # A sigma under 0.25 pixels or so leaves the peak nearly alone: 8 % of U(0.1, 2).
    assert (peaks < 0.999).double().mean() == pytest.approx(0.5 * 0.92, abs=0.04)
    assert peaks.min() == pytest.approx(1 / (2 * torch.pi * 2**2), rel=0.1)
    assert len(peaks.unique()) > 800


def test_blur_is_the_gaussian_inside_and_keeps_constants_everywhere():
    x = torch.rand(2, 3, 33, 33, generator=seeded())
    sigma = torch.tensor([0.7, 2.0])
    blurred = gaussian_blur(x, sigma)
    for ours, image, s in zip(blurred, x, sigma.tolist(), strict=True):
        expected = tv.gaussian_blur(image, [25, 25], [s, s])
        torch.testing.assert_close(ours[:, 12:-12, 12:-12], expected[:, 12:-12, 12:-12])
    ones = torch.ones(2, 1, 16, 16)
    torch.testing.assert_close(gaussian_blur(ones, sigma), ones)


def test_solarize_inverts_from_half_up():
    batch = random_batch(2000, 2, 8, 8)
    x = batch / 255
    views = only(solarize=0.4)(batch, seeded())
    solarized = (views - x).abs().amax((1, 2, 3)) > 1e-4
    assert solarized.double().mean() == pytest.approx(0.4, abs=0.04)
    expected = torch.where(x >= 0.5, 1 - x, x)
    torch.testing.assert_close(views[solarized], expected[solarized], rtol=0, atol=1e-6)


def test_mean_and_std_normalise_at_the_end():
    batch = random_batch(4, 2, 8, 8)
    views = only(mean=(0.25, 0.5), std=(0.5, 2.0))(batch, seeded())
    expected = (batch / 255 - torch.tensor([0.25, 0.5]).view(2, 1, 1)) / torch.tensor(
        [0.5, 2.0]
    ).view(2, 1, 1)
    torch.testing.assert_close(views, expected)


def test_bad_batches_are_refused():
    augment = Augmentation(size=8)
    with pytest.raises(DecurError, match="uint8 batch"):
        augment(torch.zeros(2, 3, 8, 8), seeded())
    with pytest.raises(DecurError, match="uint8 batch"):
        augment(torch.zeros(3, 8, 8, dtype=torch.uint8), seeded())
    with pytest.raises(DecurError, match="must both have 2 values"):
        replace(PRESETS["hha"], size=8)(torch.zeros(1, 2, 8, 8, dtype=torch.uint8), seeded())


def per_sample(preset: Augmentation, size: int) -> v2.Transform:
    """The preset by torchvision, one image at a time; brightness, contrast and the mean as grey
    are written out, since torchvision has them for 1 and 3 channels only."""

    def brightness_contrast(x: torch.Tensor) -> torch.Tensor:
        brightness, contrast = torch.empty(2).uniform_(0.6, 1.4)
        x = (x * brightness).clamp(0, 1)
        return ((x - x.mean((1, 2), keepdim=True)) * contrast + x.mean((1, 2), keepdim=True)).clamp(
            0, 1
        )

    def sometimes(transform: v2.Transform, p: float) -> v2.Transform:
        return v2.RandomApply([transform], p)

    return v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomResizedCrop(size, preset.crop_scale, antialias=False),
            sometimes(v2.Lambda(brightness_contrast), preset.brightness_contrast),
            sometimes(v2.Lambda(lambda x: x.mean(0, keepdim=True).expand_as(x)), preset.gray),
            sometimes(v2.GaussianBlur(13, (0.1, 2.0)), preset.blur),
            v2.RandomHorizontalFlip(preset.hflip),
            v2.RandomVerticalFlip(preset.vflip),
        ]
    )


def looks(views: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each operation leaves its mark on, one number a view (N, C, H, W)."""
    half = views.shape[-1] // 2
    return {
        "brightness": views.mean((1, 2, 3)),
        "contrast": views.std((1, 2, 3)),
        "colour": views.std(1, correction=0).mean((1, 2)),
        "sharpness": views.diff(dim=-1).abs().mean((1, 2, 3)),
        "left against right": (views[..., :half] - views[..., half:]).mean((1, 2, 3)),
        "top against bottom": (views[..., :half, :] - views[..., half:, :]).mean((1, 2, 3)),
        "darkest": views.amin((1, 2, 3)),
        "brightest": views.amax((1, 2, 3)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(PRESETS))
def test_views_are_distributed_as_by_torchvision_one_at_a_time(kind):
    count, size = 2000, 24
    preset = replace(PRESETS[kind], size=size, mean=None, std=None)
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    noise = torch.randint(0, 80, (CHANNELS[kind], 40, 40), generator=seeded(1))
    tint = torch.randint(0, 60, (CHANNELS[kind], 1, 1), generator=seeded(2))
    image = (noise + tint + rows + 2 * columns).clamp(0, 255).to(torch.uint8)
    ours = looks(preset(image.expand(count, *image.shape), seeded(3)))
    torch.manual_seed(4)
    transform = per_sample(preset, size)
    theirs = looks(torch.stack([transform(image) for _ in range(count)]))
    # Two samples of 2,000 from one distribution are further apart than 0.061 once in 1,000 times.
    # The aspects of the crops differ (uniform as in the released code, torchvision's log-uniform).
    apart = {name: ks_2samp(ours[name], theirs[name]).statistic for name in ours}
    assert max(apart.values()) < 0.061, apart


@pytest.mark.slow
def test_the_comparison_with_torchvision_would_notice():
    """Half as many blurred, or a flip left out, is further apart than the tolerance."""
    preset = replace(PRESETS["rgb"], size=24)
    image = torch.randint(0, 256, (3, 40, 40), generator=seeded(1), dtype=torch.uint8) // 2
    image += torch.arange(40, dtype=torch.uint8) * 2
    batch = image.expand(2000, 3, 40, 40)
    right = looks(preset(batch, seeded(3)))
    for changes, mark in [
        ({"blur": 0.25}, "sharpness"),
        ({"hflip": 0.0}, "left against right"),
        ({"gray": 0.1}, "colour"),
        ({"crop_scale": (0.5, 1.0)}, "contrast"),
        ({"brightness_contrast": 0.4}, "brightness"),
    ]:
        wrong = looks(replace(preset, **changes)(batch, seeded(4)))
        assert ks_2samp(right[mark], wrong[mark]).statistic > 0.061, mark
