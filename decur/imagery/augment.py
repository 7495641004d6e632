"""Augment batches of one modality on their device (paper §4).

Each sample has its own parameters, drawn from an explicit generator. The generator may live on
the CPU while the batch is on a GPU, so that the views are the same on both. Each call draws new
crops and flips, so the views of a pair are not aligned, neither within nor across modalities.

The ranges are those of the released code. Its bugs are not repeated: uint8 wrap-around after
brightness and contrast, and a solarisation that only moved 0 to 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from decur.errors import DecurError

ASPECT = (3 / 4, 4 / 3)
STRENGTH = (0.6, 1.4)  # factors of brightness and contrast
SIGMA = (0.1, 2.0)  # of the blur, in pixels of the cropped view
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Draws:
    """Hold the drawn parameters of n images; an operation that is never applied is None.

    Attributes:
        boxes: crops (n, 4) int64: top, left, height, width.
        flips: (n, 2) bool: left to right, top to bottom.
        factors: (n, 2): brightness, contrast; 1 changes nothing.
        gray: (n,) bool.
        sigma: (n,) sigma of the blur in pixels; 0 changes nothing.
        solarize: (n,) bool.
    """

    boxes: Tensor
    flips: Tensor
    factors: Tensor | None
    gray: Tensor | None
    sigma: Tensor | None
    solarize: Tensor | None

    def __getitem__(self, rows: slice) -> "Draws":
        """Return the draws of some of the images."""
        drawn = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v[rows] for k, v in drawn.items() if v is not None})


@dataclass(frozen=True)
class Augmentation:
    """Create a random view of a batch: crop, brightness, contrast, gray, blur, solarise, flips.

    Attributes:
        size: side of the square view, in pixels.
        crop_scale: range of the crop's area, as a fraction of the image area.
        brightness_contrast: probability of changing both, each by U(0.6, 1.4).
        gray: probability of replacing every channel by the mean of all channels.
        blur: probability of a Gaussian blur, sigma U(0.1, 2) pixels.
        solarize: probability of inverting the values from 0.5 up.
        hflip: probability of a flip left to right.
        vflip: probability of a flip top to bottom.
        mean: per-channel mean to subtract at the end, or None to stay in [0, 1].
        std: per-channel divisor; required with `mean`, not allowed without it.
    """

    size: int = 224
    crop_scale: tuple[float, float] = (0.2, 1.0)
    brightness_contrast: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    solarize: float = 0.0
    hflip: float = 0.5
    vflip: float = 0.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __call__(self, batch: Tensor, generator: Generator) -> Tensor:
        """Augment (N, C, H, W) uint8 into (N, C, size, size) float32 on the batch's device.

        Values are in [0, 1] up to rounding, unless `mean` and `std` are set.

        Raises:
            DecurError: if the batch is not four-dimensional uint8, or `mean` and `std` do not
                fit its channels.
        """
        height, width = batch.shape[-2:]
        return self.apply(batch, self.draw(len(batch), height, width, generator))

    def draw(self, n: int, height: int, width: int, generator: Generator) -> "Draws":
        """Draw the parameters for `n` images of `height` x `width` pixels."""
        boxes = draw_boxes(n, height, width, self.crop_scale, generator)
        flips = torch.stack([_chance(n, p, generator) for p in (self.hflip, self.vflip)], dim=1)
        factors = gray = sigma = solarize = None
        if self.brightness_contrast:
            chosen = _chance(n, self.brightness_contrast, generator)
            factors = torch.stack([_uniform(n, *STRENGTH, generator) for _ in range(2)], dim=1)
            factors = factors.where(chosen[:, None], 1.0)
        if self.gray:
            gray = _chance(n, self.gray, generator)
        if self.blur:
            chosen = _chance(n, self.blur, generator)
            sigma = _uniform(n, *SIGMA, generator).where(chosen, 0.0)
        if self.solarize:
            solarize = _chance(n, self.solarize, generator)
        return Draws(boxes, flips, factors, gray, sigma, solarize)

    def apply(self, batch: Tensor, draws: "Draws") -> Tensor:
        """Augment a batch as drawn; see `__call__`."""
        self._check(batch)
        x = crop_resize(batch / 255, draws.boxes, draws.flips, self.size)
        if draws.factors is not None:
            x = change_brightness_contrast(x, draws.factors)
        if draws.gray is not None:
            chosen = draws.gray.nonzero().squeeze(1).to(x.device)
            x[chosen] = x[chosen].mean(1, keepdim=True).expand(-1, x.shape[1], -1, -1)
        if draws.sigma is not None:
            chosen = draws.sigma.nonzero().squeeze(1)
            sigma, chosen = draws.sigma[chosen], chosen.to(x.device)
            x[chosen] = gaussian_blur(x[chosen], sigma)
        if draws.solarize is not None:
            x = torch.where(_per_sample(draws.solarize, x) & (x >= 0.5), 1 - x, x)
        if self.mean is not None and self.std is not None:
            mean, std = (x.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
            x = x.sub_(mean).div_(std)
        return x

    def _check(self, batch: Tensor) -> None:
        if batch.dtype != torch.uint8 or batch.ndim != 4:
            raise DecurError(
                "augmentation takes a uint8 batch (N, C, H, W), "
                f"got {batch.dtype} {tuple(batch.shape)}"
            )
        channels = batch.shape[1]
        given = [None if v is None else len(v) for v in (self.mean, self.std)]
        if given not in ([None, None], [channels, channels]):
            raise DecurError(
                f"mean and std must both have {channels} values, one per channel, or be None; "
                f"got {given[0]} and {given[1]}"
            )


PRESETS: dict[str, Augmentation] = {
    "optical": Augmentation(brightness_contrast=0.8, gray=0.2, blur=0.5, vflip=0.5),
    "sar": Augmentation(gray=0.2, blur=0.5, vflip=0.5),
    "rgb": Augmentation(brightness_contrast=0.8, gray=0.2, blur=0.5, vflip=0.5),
    "dem": Augmentation(vflip=0.5),
    "rgb-indoor": Augmentation(
        crop_scale=(0.5, 1.0),
        brightness_contrast=0.8,
        gray=0.2,
        blur=0.5,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "hha": Augmentation(crop_scale=(0.5, 1.0), mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "image": Augmentation(brightness_contrast=0.8, gray=0.2, blur=0.5),
    "measured": Augmentation(),
}
"""Augmentation of each kind of modality at 224 pixels; `dataclasses.replace` changes the size.

`optical` is multispectral satellite imagery, `sar` is SAR, `rgb` is aerial RGB, `dem` is elevation,
`rgb-indoor` is indoor RGB and `hha` is HHA-coded depth. For other modalities, `image` suits images
whose brightness depends on light and exposure. `measured` suits physical quantities: it only crops
and flips.
"""


def augmentation(preset: str, **changes: Any) -> Augmentation:
    """Return the augmentation of a preset at 224 pixels, with some fields changed.

    Raises:
        DecurError: no preset has this name.
    """
    if preset not in PRESETS:
        raise DecurError(f"no augmentation '{preset}'; known are {', '.join(PRESETS)}")
    return replace(PRESETS[preset], **changes)


def draw_boxes(
    n: int, height: int, width: int, scale: tuple[float, float], generator: Generator
) -> Tensor:
    """Draw crop boxes: (n, 4) int64 of top, left, height, width, on the generator's device.

    The area is uniform in `scale` times the image area. The aspect ratio is uniform in (3/4, 4/3),
    and inverted for half of the boxes. Each sample takes the first of ten tries that fits into the
    image, or the largest centred square if none fits.
    """
    tries = 10
    area = height * width * _uniform((n, tries), *scale, generator)
    aspect = _uniform((n, tries), *ASPECT, generator)
    aspect = torch.where(_chance((n, tries), 0.5, generator), aspect, 1 / aspect)
    h, w = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (h >= 1) & (h <= height) & (w >= 1) & (w <= width)
    first = fits.int().argmax(1, keepdim=True)
    side = float(min(height, width))
    any_fits = fits.any(1)
    h, w = (v.gather(1, first).squeeze(1).where(any_fits, side) for v in (h, w))
    # A uniform integer in 0..room, so room + 1 before the floor; the centred square uses 0.5.
    down, right = (
        _uniform(n, 0, 1, generator).where(any_fits, 0.5) * (room + any_fits)
        for room in (height - h, width - w)
    )
    return torch.stack([down.floor(), right.floor(), h, w], dim=1).long()


def draw_scaled_boxes(
    n: int,
    height: int,
    width: int,
    size: tuple[int, int],
    scales: Sequence[float],
    generator: Generator,
) -> Tensor:
    """Draw the crops of a `size` window in images enlarged by one of `scales`: (n, 4) float32.

    A box is top, left, height and width in pixels of the image. If the enlarged image is smaller
    than the window, the box exceeds the image evenly on both sides.
    """
    chosen = torch.randint(len(scales), (n,), generator=generator, device=generator.device)
    scale = torch.tensor(scales, device=generator.device)[chosen]
    sides, starts = [], []
    for window, full in zip(size, (height, width), strict=True):
        side = window / scale
        room = full - side
        start = torch.where(room > 0, room * _uniform(n, 0, 1, generator), room / 2)
        sides.append(side)
        starts.append(start)
    return torch.stack([*starts, *sides], dim=1)


def beyond(boxes: Tensor, height: int, width: int, size: tuple[int, int]) -> Tensor:
    """Find the pixels of a `size` crop that lie outside their image: bool `(N, 1, *size)`."""
    outside = []
    axes = zip(boxes[:, :2].T, boxes[:, 2:].T, (height, width), size, strict=True)
    for start, length, full, count in axes:
        steps = (torch.arange(count, device=boxes.device) + 0.5) / count
        points = start[:, None] + steps * length[:, None]
        outside.append((points < 0) | (points > full))
    rows, columns = outside
    pixels: Tensor = rows[:, :, None] | columns[:, None, :]
    return pixels[:, None]


def crop_resize(
    batch: Tensor,
    boxes: Tensor,
    flips: Tensor,
    size: int | tuple[int, int],
    mode: str = "bilinear",
) -> Tensor:
    """Crop each sample to its box, resize without antialiasing, and flip.

    Args:
        batch: images (N, C, H, W), any real dtype.
        boxes: (N, 4): top, left, height, width.
        flips: (N, 2) bool: left to right, top to bottom.
        size: side of the square result, or its height and width.
        mode: "bilinear", or "nearest" for class indices.

    Returns:
        `(N, C, *size)` float32, in the units of the input.
    """
    _, _, height, width = batch.shape
    rows, columns = (size, size) if isinstance(size, int) else size
    top, left, h, w = boxes.to(batch.device, torch.float32).unbind(1)
    flips = flips.to(batch.device)
    x = _sample_points(left, w, width, columns, flips[:, 0])
    y = _sample_points(top, h, height, rows, flips[:, 1])
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    return F.grid_sample(batch.float(), grid, mode=mode, padding_mode="border", align_corners=False)


def _sample_points(start: Tensor, length: Tensor, full: int, size: int, flip: Tensor) -> Tensor:
    """Compute the sample points along an axis, in grid_sample's units (-1 to 1, edge to edge).

    Points are clamped to the centres of the crop's outer pixels, so that no pixel outside the crop
    contributes.
    """
    steps = (torch.arange(size, device=start.device) + 0.5) / size
    steps = torch.where(flip[:, None], 1 - steps, steps)
    start, length = start[:, None], length[:, None]
    points = (start + steps * length).clamp(start + 0.5, start + length - 0.5)
    return points * (2 / full) - 1


def change_brightness_contrast(x: Tensor, factors: Tensor) -> Tensor:
    """Scale brightness, then contrast about each channel's mean, clipping to [0, 1] each time.

    Args:
        x: images in [0, 1], (N, C, H, W).
        factors: (N, 2): brightness, contrast.
    """
    brightness, contrast = (_per_sample(f, x) for f in factors.unbind(1))
    x = (x * brightness).clamp_(max=1)
    mean = x.mean((2, 3), keepdim=True)
    return x.mul_(contrast).add_(mean * (1 - contrast)).clamp_(0, 1)


def gaussian_blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur each square image with its own sigma: (N, C, S, S), (N,) -> (N, C, S, S).

    The blur is two batched products with an S x S weight matrix, which is faster than convolutions
    with one kernel per sample. The weights are renormalised where the kernel leaves the image.
    """
    n, channels, _, size = x.shape
    position = torch.arange(size, device=x.device, dtype=x.dtype)
    squared_distance = (position[:, None] - position).square()
    precision = sigma.to(x.device, x.dtype).square().reciprocal().view(n, 1, 1) / 2
    weights = torch.softmax(-squared_distance * precision, dim=-1)
    for _ in range(2):  # rows first; the transpose then makes it the columns
        x = (x.flatten(1, 2) @ weights.mT).unflatten(1, (channels, size)).mT
    return x


def _uniform(shape: int | tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def _chance(shape: int | tuple[int, ...], p: float, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device) < p


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshape one value per sample so that it broadcasts over the sample's image."""
    return values.to(like.device).view(-1, 1, 1, 1)
