"""Store paired samples on disk: plain `.npy` files per modality, a Parquet index, a JSON card.

Any tool can read them: `np.load(path, mmap_mode="r")` gives `(n, seasons, bands, height, width)`
uint8. Row `i` of every modality is the same place, and `index.parquet` lists the sample of each
row. `card.json` is written last, so a folder with a card is complete. The card describes the arrays
and records their statistics, and the size and SHA-256 of every file.

All samples of a folder have one shape, so that a batch is one gather. If the raw images differ in
size (SUN-RGBD's four cameras), the dataset's module resizes them to squares of `pixels` first,
whatever their aspect ratio. A sample of another shape is refused with its name.
"""

from decur.shards.read import PairedShards
from decur.shards.sample import MASK, Georeference, Modality, Sample
from decur.shards.writer import ShardWriter

__all__ = ["MASK", "Georeference", "Modality", "PairedShards", "Sample", "ShardWriter"]
