"""Score whole images by sliding windows, at several scales and mirrored.

The geometry is that of CMX's released evaluation. There are two ways to add up the windows:

- `softmax`, the default: mean probabilities, over the windows on a pixel and then over the scales.
  Every window and every scale has the same weight, and nothing can overflow.
- `exp`, the released one: exp(logits) summed. It depends on the size of the logits, which no loss
  fixes, and scales with more windows on a pixel weigh more. Use it to compare with CMX's numbers.

No gradients are needed here: call these functions under `torch.no_grad`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from decur.config import Sliding

Predict = Callable[[Sequence[Tensor]], Tensor]


def multiscale_scores(predict: Predict, images: Sequence[Tensor], sliding: Sliding) -> Tensor:
    """Compute scores `(N, classes, H, W)` over all scales.

    `images` has one `(N, C, H, W)` per modality. Images and scores are resized bilinearly; a scale
    of 1 leaves both unchanged.
    """
    size = images[0].shape[2:]
    scores = []
    for scale in sliding.scales:
        scaled = [_resize(x, [round(scale * n) for n in size]) for x in images]
        scores.append(_resize(sliding_scores(predict, scaled, sliding), size))
    stacked = torch.stack(scores)
    return stacked.sum(dim=0) if sliding.score == "exp" else stacked.mean(dim=0)


def sliding_scores(predict: Predict, images: Sequence[Tensor], sliding: Sliding) -> Tensor:
    """Compute scores `(N, classes, H, W)` at one scale.

    `images` has one `(N, C, H, W)` per modality. `predict` returns logits `(B, classes, h, w)` for
    windows `(B, C, h, w)`. An image that does not exceed the window in both directions is not
    split, and is padded with zeros up to the window's size. Images are standardised already, so
    zero is the mean colour.
    """
    size, window = images[0].shape[2:], sliding.window
    rows, columns = (max(w - n, 0) for n, w in zip(size, window, strict=True))
    top, left = rows // 2, columns // 2
    padded = [F.pad(x, (left, columns - left, top, rows - top)) for x in images]
    slides = all(n > w for n, w in zip(size, window, strict=True))
    places = _places(
        padded[0].shape, window if slides else padded[0].shape[2:], sliding.stride_share
    )
    total = seen = torch.zeros(())
    for first in range(0, len(places), sliding.batch):
        chunk = places[first : first + sliding.batch]
        scores = _scores(predict, [torch.stack([x[at] for at in chunk]) for x in padded], sliding)
        if first == 0:
            total = scores.new_zeros(len(padded[0]), scores.shape[1], *padded[0].shape[2:])
            seen = torch.zeros_like(total[:, :1])
        for at, of_window in zip(chunk, scores, strict=True):
            total[at] += of_window
            seen[at] += 1
    combined = total if sliding.score == "exp" else total / seen
    return combined[:, :, top : top + size[0], left : left + size[1]]


def _places(
    shape: Sequence[int], window: Sequence[int], stride_share: float
) -> list[tuple[int | slice, ...]]:
    """List every window of every image, as an index into a `shape` of `(N, C, H, W)`."""
    (height, width), (count, _, rows, columns) = window, shape
    down, across = _starts(rows, height, stride_share), _starts(columns, width, stride_share)
    return [
        (i, slice(None), slice(y, y + height), slice(x, x + width))
        for i, y, x in product(range(count), down, across)
    ]


def _starts(length: int, window: int, stride_share: float) -> list[int]:
    """List the first pixels of the windows along one side; the last window ends with the image."""
    stride, last = math.ceil(stride_share * window), length - window
    return [min(i * stride, last) for i in range(math.ceil(last / stride) + 1)]


def _scores(predict: Predict, windows: Sequence[Tensor], sliding: Sliding) -> Tensor:
    """Compute the scores of a batch of windows.

    With `flip` the logits of the mirrored view are added, as released, or averaged for `softmax`.
    """
    logits = [predict(windows)]
    if sliding.flip:
        logits.append(predict([x.flip(-1) for x in windows]).flip(-1))
    views = torch.stack(logits)
    return views.sum(dim=0).exp() if sliding.score == "exp" else views.mean(dim=0).softmax(dim=1)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
