"""The registry of datasets: what is known of each without its files.

Titles, classes and archives are in the dataset's own module, as `DATASET`. Tests compare the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SSL4EO_IMAGES = 231.0
"""Images per second in pretraining on SSL4EO-S12, see `KnownDataset.images_per_second`."""


@dataclass(frozen=True)
class FullSize:
    """A complete dataset, for estimates.

    `download` and `unpacked` are GB, `counts` the samples by split, `rate` the samples that one
    core preprocesses per second (the seasons, of a dataset with seasons).
    """

    download: float
    unpacked: float
    counts: Mapping[str, int]
    rate: float


UNLISTED = "unlisted"
"""The split of samples that no official list names."""


@dataclass(frozen=True)
class KnownDataset:
    """A dataset that has a module of its own.

    Attributes:
        module: the module that reads it, see `decur.datasets`.
        modalities: bands by modality; the first two modalities are stored by default.
        splits: names of its splits. Synthetic scenes in its place have `train` and `evaluation`.
        evaluation: the split that results are reported on.
        masks: whether its samples have label masks.
        seasons: whether its samples have several seasons.
        full: its full size, None where nobody has measured it.
        images_per_second: images of 224 pixels that one A100 pretrains a ResNet-50 on. The paper's
            30, 4 and 6 hours on four A100 give three; other datasets are assumed to be as fast as
            SSL4EO-S12.
    """

    module: str
    modalities: Mapping[str, int]
    splits: tuple[str, ...] = ("train", "test")
    evaluation: str = "test"
    masks: bool = field(default=False, kw_only=True)
    seasons: bool = field(default=False, kw_only=True)
    full: FullSize | None = field(default=None, kw_only=True)
    images_per_second: float = field(default=SSL4EO_IMAGES, kw_only=True)

    @property
    def unused(self) -> tuple[str, ...]:
        """The splits that are neither trained on nor reported."""
        used = ("train", self.evaluation, UNLISTED)
        return tuple(name for name in self.splits if name not in used)

    @property
    def stored(self) -> tuple[str, ...]:
        """The modalities that are stored by default."""
        return tuple(self.modalities)[:2]


# Archives: the servers' listings, but BigEarthNet's, which nobody states: the remainder of the 1.2
# TB of config/paper.yaml. Unpacked: pixels times bytes. Counts: the official lists (BigEarthNet's
# as SeCo splits it). Rates: tests/benchmarks/bench_preprocess.py, two shared cores, real frames.
DATASETS = {
    "ssl4eo-s12": KnownDataset(
        "decur.datasets.ssl4eo_s12",
        {"sar": 2, "optical": 13},
        ("train",),
        seasons=True,
        full=FullSize(1039, 1340, {"train": 251_079}, 58),
    ),
    "bigearthnet": KnownDataset(
        "decur.datasets.bigearthnet",
        {"sar": 2, "optical": 13},
        ("train", "val", "test", UNLISTED),
        "val",
        full=FullSize(120, 165, {"train": 311_667, "val": 103_944, "test": 103_728}, 74),
    ),
    "bigearthnet-v2": KnownDataset(
        "decur.datasets.bigearthnet_v2", {"sar": 2, "optical": 13}, ("train", "val", "test")
    ),
    "geonrw": KnownDataset(
        "decur.datasets.geonrw",
        {"rgb": 3, "dem": 1, "nir": 1},
        masks=True,
        full=FullSize(32, 45, {"train": 116_768, "test": 7_760}, 75),
        images_per_second=771.0,
    ),
    "sun-rgbd": KnownDataset(
        "decur.datasets.sun_rgbd",
        {"rgb": 3, "hha": 3},
        masks=True,
        full=FullSize(7.4, 8, {"train": 5_285, "test": 5_050}, 10),
        images_per_second=96.0,
    ),
    "nyuv2": KnownDataset(
        "decur.datasets.nyuv2",
        {"rgb": 3, "hha": 3},
        masks=True,
        full=FullSize(2.8, 2.8, {"train": 795, "test": 654}, 12),
    ),
    "ombria": KnownDataset("decur.datasets.ombria", {"sar": 1, "optical": 3}, masks=True),
    "terramind": KnownDataset(
        "decur.datasets.terramind", {"sar": 2, "optical": 13, "rgb": 3, "dem": 1}, masks=True
    ),
}
