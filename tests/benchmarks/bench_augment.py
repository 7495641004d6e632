"""Our augmentation of a batch against kornia's of the same, and torchvision's one by one.

    pip install kornia==0.9.0 && python tests/benchmarks/bench_augment.py

All from uint8 on the device to float views of 224 pixels, every sample with its own parameters.
kornia's grey needs three channels, so it is left out for any other number, in kornia's favour.
"""

import argparse

import kornia.augmentation as K
import torch
from common import seconds
from torch import Tensor, nn
from torchvision.transforms import v2

from decur.imagery.augment import PRESETS, Augmentation


def by_kornia(preset: Augmentation, channels: int) -> nn.Module:
    size = preset.size
    layers: list[nn.Module] = [K.RandomResizedCrop((size, size), preset.crop_scale)]
    if preset.brightness_contrast:
        p = preset.brightness_contrast
        layers += [K.RandomBrightness((0.6, 1.4), p=p), K.RandomContrast((0.6, 1.4), p=p)]
    if preset.gray and channels == 3:
        layers.append(K.RandomGrayscale(p=preset.gray))
    if preset.blur:
        layers.append(K.RandomGaussianBlur((13, 13), (0.1, 2.0), p=preset.blur))
    layers += [K.RandomHorizontalFlip(p=preset.hflip), K.RandomVerticalFlip(p=preset.vflip)]
    return K.container.AugmentationSequential(*layers)


def by_torchvision(preset: Augmentation) -> v2.Transform:
    jitter = v2.ColorJitter(0.4, 0.4)  # of three channels only; left out for others
    return v2.Compose(
        [
            v2.RandomResizedCrop(preset.size, preset.crop_scale, antialias=False),
            v2.RandomApply([jitter], preset.brightness_contrast),
            v2.RandomGrayscale(preset.gray),
            v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], preset.blur),
            v2.RandomHorizontalFlip(preset.hflip),
            v2.RandomVerticalFlip(preset.vflip),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    print("| modality | bands | ours, ms | kornia, ms | torchvision one by one, ms |")
    print("|---|---:|---:|---:|---:|")
    for name, channels in [("optical", 13), ("sar", 2), ("rgb", 3), ("dem", 1)]:
        preset = PRESETS[name]
        shape = (args.batch, channels, 264, 264)
        batch = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        generator = torch.Generator().manual_seed(0)
        kornia, single = by_kornia(preset, channels), by_torchvision(preset)

        def one_by_one(batch: Tensor = batch, single: v2.Transform = single) -> Tensor:
            return torch.stack([single(image / 255) for image in batch])

        ways = [
            lambda batch=batch, preset=preset, draw=generator: preset(batch, draw),
            lambda batch=batch, kornia=kornia: kornia(batch / 255),
            *[one_by_one] * (channels == 3),
        ]
        times = [f"{1000 * seconds(way, args.repeats, device):.0f}" for way in ways]
        print(f"| {name} | {channels} | {' | '.join([*times, '-'][:3])} |", flush=True)


if __name__ == "__main__":
    main()
