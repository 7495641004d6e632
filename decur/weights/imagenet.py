"""Files of ImageNet weights, as their publishers name the tensors, into a backbone.

torchvision's ResNets, timm's vision transformer, and SegFormer's encoder under its own names or
those of `transformers`' files.
"""

from pathlib import Path

from torch import Tensor

from decur.models.backbone import Backbone
from decur.weights.files import fill_backbone, read_tensors
from decur.weights.naming import ATTENTION, from_published


def load_imagenet(backbone: Backbone, path: Path, *, arch: str) -> None:
    """Fill a backbone from a file of its ImageNet weights.

    A first convolution of other than three channels is adapted as timm does: one channel takes the
    sum of the three kernels, more of them repeat red, green and blue, scaled by 3 / channels.
    Deformable attention, which no such file has, stays as it is.

    Raises:
        DecurError: the file is missing, unreadable or of another architecture.
    """
    own = backbone.state_dict()
    given = from_published(arch, read_tensors(path))
    for name, tensor in own.items():
        # Counters are not in older files, and of no effect.
        if name.endswith("num_batches_tracked") or name.startswith(ATTENTION):
            given.setdefault(name, tensor)
    first = next(name for name, tensor in own.items() if tensor.ndim == 4)
    in_chans = own[first].shape[1]
    if first in given:
        given[first] = _adapted(given[first], in_chans)
    fill_backbone(backbone, given, str(path), arch=arch, in_chans=in_chans)


def _adapted(kernel: Tensor, in_chans: int) -> Tensor:
    if kernel.ndim != 4 or kernel.shape[1] != 3:
        return kernel
    from timm.models import adapt_input_conv  # costs a second, which no other run should pay

    adapted: Tensor = adapt_input_conv(in_chans, kernel)
    return adapted
