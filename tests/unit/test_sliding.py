import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from decur.config import Sliding
from decur.transfer.sliding import multiscale_scores, sliding_scores

SMALL = Sliding(window=(12, 16))
MULTI = {"scales": (0.75, 1.0, 1.25), "flip": True}


def log_probabilities(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).log_softmax(dim=1)


def given(xs):
    """A predictor whose logits are its input."""
    return xs[0]


def network():
    """A predictor that sees neighbours and its place in the window, so that windows matter."""
    torch.manual_seed(0)
    net = nn.Conv2d(2, 4, 5, padding=2).double()

    def predict(xs):
        down, across = (torch.linspace(1, 2, n) for n in xs[0].shape[2:])
        return net(xs[0] + xs[1]) * down[:, None] * across**2

    return predict


def images(height, width, count=2):
    generator = torch.Generator().manual_seed(1)
    shape = (count, 2, height, width)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(2)]


def reference(predict, xs, how):
    """The released evaluation at one scale, written as its description reads."""
    height, width = how.window
    rows, columns = xs[0].shape[2:]
    totals, seen = 0, 0
    y = 0
    while True:
        bottom = min(y + height, rows)
        x = 0
        while True:
            right = min(x + width, columns)
            crop = [m[:, :, bottom - height : bottom, right - width : right] for m in xs]
            logits = predict(crop)
            if how.flip:
                logits = logits + predict([m.flip(3) for m in crop]).flip(3)
            if how.score == "exp":
                scores = torch.exp(logits)
            else:
                scores = F.softmax(logits / (2 if how.flip else 1), dim=1)
            around = (right - width, columns - right, bottom - height, rows - bottom)
            totals = totals + F.pad(scores, around)
            seen = seen + F.pad(torch.ones_like(scores), around)
            if right == columns:
                break
            x += -(-2 * width // 3)
        if bottom == rows:
            break
        y += -(-2 * height // 3)
    return totals if how.score == "exp" else totals / seen


@pytest.mark.parametrize("size", [(12, 16), (13, 17), (20, 27), (31, 50), (5, 40), (40, 5), (7, 9)])
@pytest.mark.parametrize("flip", [False, True])
def test_probabilities_that_are_given_come_back_unchanged(size, flip):
    """Of every pixel: so none is missed, moved or counted twice."""
    x = log_probabilities(2, 3, *size)
    found = sliding_scores(given, [x], Sliding(window=(12, 16), flip=flip))
    torch.testing.assert_close(found, x.exp())


def test_flat_probabilities_come_back_unchanged_at_every_scale():
    x = log_probabilities(2, 3, 1, 1).expand(2, 3, 26, 35)
    found = multiscale_scores(given, [x], Sliding(window=(12, 16), **MULTI))
    torch.testing.assert_close(found, x.exp())


@pytest.mark.parametrize("score", ["softmax", "exp"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(13, 17), (20, 27), (31, 50)])
def test_windows_are_those_of_the_released_evaluation(size, flip, score):
    xs, how = images(*size), Sliding(window=(12, 16), flip=flip, score=score)
    torch.testing.assert_close(sliding_scores(network(), xs, how), reference(network(), xs, how))


@pytest.mark.parametrize("size", [(12, 16), (12, 40), (30, 16)])
def test_a_window_that_an_image_does_not_exceed_both_ways_is_the_whole_image(size):
    xs = images(*size)
    torch.testing.assert_close(sliding_scores(network(), xs, SMALL), network()(xs).softmax(dim=1))


@pytest.mark.parametrize(
    ("size", "top", "left"), [((7, 9), 2, 3), ((5, 40), 3, 0), ((40, 5), 0, 5)]
)
def test_smaller_images_lie_in_the_middle_of_zeros(size, top, left):
    xs = images(*size)
    canvas = [torch.zeros(2, 2, max(12, size[0]), max(16, size[1])).double() for _ in xs]
    inside = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    for large, x in zip(canvas, xs, strict=True):
        large[inside] = x
    expected = network()(canvas).softmax(dim=1)[inside]
    torch.testing.assert_close(sliding_scores(network(), xs, SMALL), expected)


def test_mirrored_images_have_mirrored_scores():
    """Where the window covers the image; windows themselves lie from left to right."""
    xs, how = images(12, 16), Sliding(window=(12, 16), scales=(0.75, 1.0), flip=True)
    found = multiscale_scores(network(), [x.flip(-1) for x in xs], how)
    torch.testing.assert_close(found.flip(-1), multiscale_scores(network(), xs, how))
    plain = Sliding(window=(12, 16))
    found = multiscale_scores(network(), [x.flip(-1) for x in xs], plain)
    assert not torch.allclose(found.flip(-1), multiscale_scores(network(), xs, plain))


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_the_size_of_a_sub_batch_does_not_show(batch):
    sizes = []

    def counted(xs):
        sizes.append(len(xs[0]))
        return network()(xs)

    xs = images(20, 27, count=3)  # 2 x 2 windows each
    found = sliding_scores(counted, xs, Sliding(window=(12, 16), batch=batch))
    torch.testing.assert_close(found, sliding_scores(network(), xs, SMALL))
    assert max(sizes) == min(batch, 12)
    assert sum(sizes) == 12


@pytest.mark.parametrize("score", ["softmax", "exp"])
def test_scales_are_averaged_or_as_released_summed(score):
    xs = images(20, 28)
    how = Sliding(window=(12, 16), score=score, **MULTI)
    expected = 0
    for size in ((15, 21), (20, 28), (25, 35)):
        scaled = [F.interpolate(x, size=size, mode="bilinear") for x in xs]
        scores = reference(network(), scaled, how)
        expected = expected + F.interpolate(scores, size=(20, 28), mode="bilinear")
    found = multiscale_scores(network(), xs, how)
    torch.testing.assert_close(found, expected if score == "exp" else expected / 3)


def test_one_scale_is_plain_sliding_to_the_bit():
    xs = images(20, 27)
    found = multiscale_scores(network(), xs, SMALL)
    assert torch.equal(found, sliding_scores(network(), xs, SMALL))


def test_probabilities_stay_finite_where_the_exponential_does_not():
    x = torch.tensor([90.0, 100.0, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 12, 16)
    assert sliding_scores(given, [x], SMALL).isfinite().all()
    assert not sliding_scores(given, [x], Sliding(window=(12, 16), score="exp")).isfinite().all()


@pytest.mark.parametrize("share", [0, 1.2])
def test_strides_that_would_skip_pixels_are_refused(share):
    with pytest.raises(ValidationError, match="stride_share"):
        Sliding(stride_share=share)
