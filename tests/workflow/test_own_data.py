"""docs/add-dataset.md, executed: from two folders of images and a YAML file to a report."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image

from tests.support import HOME
from tests.support.pages import blocks, write_files


def make_harbour(root: Path, count: int = 48) -> None:
    """Photographs and temperatures of places half land, half water, and masks of most."""
    for name in ("photo", "thermal", "water"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        water = np.add.outer(*rng.normal(size=2)[:, None] * np.linspace(-1, 1, 40)) > 0
        photo = np.where(water[..., None], [40, 60, 120], [120, 110, 80])
        photo = photo + rng.normal(0, 12, photo.shape)
        kelvin = np.where(water, 285, 295) + rng.normal(0, 1, water.shape)
        name = f"a{i:03d}"
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(root / f"photo/{name}.jpg")
        profile = {"driver": "GTiff", "height": 40, "width": 40, "count": 1, "dtype": "float32"}
        with rasterio.open(root / f"thermal/{name}.tif", "w", **profile) as file:
            file.write(kelvin.astype(np.float32), 1)
        if i % 5:
            Image.fromarray(water.astype(np.uint8)).save(root / f"water/{name}.png")


@pytest.mark.slow
def test_the_worked_example_runs_from_two_folders_to_a_report(tmp_path):
    make_harbour(tmp_path / "harbour")
    write_files("add-dataset.md", "yaml", tmp_path)
    for name in ("workflow", "rules", "config"):
        (tmp_path / name).symlink_to(HOME / name)
    (_, first), (_, command) = blocks("add-dataset.md", "sh")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(HOME),
        "OMP_NUM_THREADS": "1",
    }
    planned = first.replace("snakemake", "snakemake --dry-run")
    subprocess.run(["bash", "-ec", planned], cwd=tmp_path, env=environment, check=True)
    done = subprocess.run(
        shlex.split(command), cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    root = tmp_path / "results" / "own"
    card = json.loads((root / "shards/harbour/card.json").read_text())
    assert sum(card["counts"].values()) == 48 and set(card["counts"]) == {"train", "test"}
    photo, thermal = card["modalities"]
    assert photo["scaling"]["kind"] == "none" and thermal["scaling"]["kind"] == "stretch"
    (black,), (white,) = thermal["scaling"]["black"], thermal["scaling"]["white"]
    assert 280 < black < white < 300
    assert (root / "raw/harbour/photo").resolve() == (tmp_path / "harbour/photo").resolve()
    frame = pd.read_csv(root / "tables/water.csv")
    assert frame["ours_mean"].notna().all() and set(frame["row"]) == {"Rand. Init.", "DeCUR"}
    report = (root / "report.html").read_text()
    assert "Water in the harbour" in report and "photo-thermal" in report
    assert (root / "figures/water-gallery.png").is_file()
