"""Paired samples on disk: a few plain `.npy` files per modality, a Parquet index, a JSON card.

Any tool reads them: `np.load(path, mmap_mode="r")` gives `(n, seasons, bands, height, width)`
uint8, row `i` of every modality being the same place, and `index.parquet` says which sample that
is. `card.json` is written last, so a folder with a card is complete; it holds what the arrays mean,
their statistics, and size and SHA-256 of every file.

All samples of a folder have one shape, so that a batch is one gather. Where the raw images differ
in size (SUN-RGBD's four cameras), the dataset's module makes them squares of `pixels` before they
come here, whatever their aspect ratio; a sample of another shape is refused by name.
"""

from decur.shards.read import PairedShards
from decur.shards.sample import MASK, Georeference, Modality, Sample
from decur.shards.writer import ShardWriter

__all__ = ["MASK", "Georeference", "Modality", "PairedShards", "Sample", "ShardWriter"]
