"""The registry of datasets: the properties of each dataset, available without its files.

Titles, classes and archives are in the dataset's own module, as `DATASET`. Tests check that both
agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SSL4EO_IMAGES = 231.0
"""Images per second in pretraining on SSL4EO-S12; see `KnownDataset.images_per_second`."""


@dataclass(frozen=True)
class FullSize:
    """The size of a complete dataset, for estimates.

    `download` and `unpacked` are in GB. `counts` is the number of samples per split. `rate` is the
    number of samples that one core preprocesses per second (seasons, for a dataset with seasons).
    """

    download: float
    unpacked: float
    counts: Mapping[str, int]
    rate: float


UNLISTED = "unlisted"
"""The split of the samples that are in no official list."""


@dataclass(frozen=True)
class KnownDataset:
    """A built-in dataset, which has its own module.

    Attributes:
        module: the module that reads it, see `decur.datasets`.
        modalities: number of bands per modality; by default, the first two modalities are stored.
        splits: names of its splits. Scenes that replace it have only `train` and `evaluation`.
        evaluation: the split on which results are reported.
        masks: whether its samples have masks.
        seasons: whether its samples have several seasons.
        full: its full size; None if it has not been measured.
        images_per_second: images of 224 pixels per second in pretraining a ResNet-50 on one A100.
            Three values follow from the paper's 30, 4 and 6 hours on four A100; other datasets are
            assumed to be as fast as SSL4EO-S12.
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
        """Return the splits that are used neither for training nor for reported results."""
        used = ("train", self.evaluation, UNLISTED)
        return tuple(name for name in self.splits if name not in used)

    @property
    def stored(self) -> tuple[str, ...]:
        """Return the modalities that are stored by default."""
        return tuple(self.modalities)[:2]


# Sources of the sizes. Archives: the listings of the servers; BigEarthNet's size is not published,
# so it is the remainder of the 1.2 TB of config/paper.yaml. Unpacked: pixels times bytes. Counts:
# the official lists (BigEarthNet with the SeCo splits). Rates: tests/benchmarks/bench_preprocess.py
# on two shared cores, with real frames.
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
