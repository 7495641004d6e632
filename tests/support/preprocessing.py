"""Raw tiles of GeoNRW, and their shards."""

import json
from pathlib import Path

from decur.config import DatasetSettings
from decur.preprocess.run import preprocess
from tests.support.geonrw import write_tile

SETTINGS = DatasetSettings(pixels=16)


def make_raw(root: Path, tiles: int) -> Path:
    for number in range(tiles):
        write_tile(root, "neuss" if number % 3 == 0 else "aachen", f"{280 + number}_5650")
    (root / "manifest.json").write_text(json.dumps({"provenance": {"inputs": {"files": "abc"}}}))
    return root


def run(raw: Path, out: Path, settings: DatasetSettings = SETTINGS, workers: int = 1) -> Path:
    preprocess("geonrw", settings, raw, out, workers=workers)
    return out


def files_of(root: Path) -> dict[str, bytes]:
    """Every file of a shards folder but what its card says of this run and its pieces."""
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    card = json.loads(files["card.json"])
    del card["job"], card["card_sha256"], card["provenance"]["settings"]["pieces"]
    return files | {"card.json": json.dumps(card).encode()}
