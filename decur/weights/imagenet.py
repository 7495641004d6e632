"""Load published files of ImageNet weights into a backbone.

Supported are torchvision's ResNets, timm's vision transformer, and SegFormer's encoder under its
own names or those of `transformers`.
"""

from pathlib import Path

from torch import Tensor

from decur.models.backbone import Backbone
from decur.weights.files import fill_backbone, read_tensors
from decur.weights.naming import ATTENTION, from_published


def load_imagenet(backbone: Backbone, path: Path, *, arch: str) -> None:
    """Fill a backbone from a file of its ImageNet weights.

    If the first convolution does not have three channels, it is adapted as in timm: one channel
    gets the sum of the three kernels; more channels repeat red, green and blue, scaled by 3 /
    channels. Deformable attention, which no such file has, is unchanged.

    Raises:
        DecurError: the file is missing, unreadable or of another architecture.
    """
    own = backbone.state_dict()
    given = from_published(arch, read_tensors(path))
    for name, tensor in own.items():
        # Older files have no counters, which have no effect here.
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
