"""Own folders below the folder of the sample frames: where they are found, and what is missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from decur.config import DatasetSettings, load_config, parse_config
from decur.config.source_paths import given_paths
from decur.download.run import download
from decur.errors import DecurError
from decur.planning import doctor
from decur.preprocess.run import preprocess
from decur.shards import PairedShards
from tests.support import HOME

TRIALS = HOME / "config" / "trials-pairs.yaml"
FIELD: dict[str, Any] = {
    "source": "samples",
    "pixels": 16,
    "folders": {
        "modalities": {
            "red": {"folder": "field/red", "bands": ["red"]},
            "nir": {"folder": "field/nir", "bands": ["nir"]},
        },
        "masks": "field/masks",
        "classes": ["soil", "plant"],
        "cut": True,
        "split": "field/split.csv",
    },
}


def field(**changes: Any) -> DatasetSettings:
    return DatasetSettings.model_validate(FIELD | changes)


@pytest.fixture
def frames(tmp_path, monkeypatch) -> Path:
    """Three frames of 16 x 32 pixels, the last one of the split `test`, away from where we are."""
    root = tmp_path / "frames"
    rng = np.random.default_rng(0)
    for name in ("red", "nir", "masks"):
        (root / "field" / name).mkdir(parents=True)
        for i in range(3):
            values = rng.integers(0, 2 if name == "masks" else 256, (16, 32), dtype=np.uint8)
            Image.fromarray(values).save(root / "field" / name / f"{i:03d}.png")
    (root / "field/split.csv").write_text("id,split\n000,train\n001,train\n002,test\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("DECUR_SAMPLES", raising=False)
    return root


def made(name: str, chosen: DatasetSettings) -> PairedShards:
    download(name, chosen, Path("raw"))
    preprocess(name, chosen, Path("raw"), Path("shards"))
    return PairedShards("shards")


@pytest.mark.parametrize("by", ["variable", "folder"])
def test_frames_are_read_from_the_folder_of_the_samples(frames, monkeypatch, by):
    if by == "variable":
        monkeypatch.setenv("DECUR_SAMPLES", str(frames))
    shards = made("field", field(folder=str(frames) if by == "folder" else None))
    assert shards.index["split"].value_counts().to_dict() == {"train": 4, "test": 2}
    row = int(np.flatnonzero(shards.index["id"] == "002_0-1")[0])
    for name, array in (("nir", "nir"), ("masks", "mask")):
        frame = np.asarray(Image.open(frames / "field" / name / "002.png"))
        np.testing.assert_array_equal(np.squeeze(shards.arrays(row)[array]), frame[:, 16:])


def test_without_a_folder_of_the_samples_there_is_one_line(frames):
    with pytest.raises(DecurError, match=r"^datasets\.field\.folder: set it, or .*DECUR_SAMPLES"):
        made("field", field())


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("red", r"modalities\.red\.folder"),
        ("masks", "masks"),
        ("split.csv", "split"),
    ],
)
def test_what_is_missing_below_it_is_named_with_its_key(frames, path, key):
    (frames / "field" / path).rename(frames / "gone")
    with pytest.raises(DecurError, match=rf"^datasets\.field\.folders\.{key}: .*/field/{path} "):
        made("field", field(folder=str(frames)))
    assert not Path("raw/manifest.json").exists()


def test_a_split_that_is_none_is_named_with_its_image(frames):
    split = frames / "field/split.csv"
    split.write_text(split.read_text().replace("002,test", "002,tset"))
    with pytest.raises(DecurError, match="split 'tset' of '002' is none of train, test"):
        made("field", field(folder=str(frames)))


def test_a_mask_of_another_size_is_named_with_its_file(frames):
    Image.fromarray(np.zeros((16, 30), np.uint8)).save(frames / "field/masks/001.png")
    with pytest.raises(DecurError, match=r"mask/001\.png"):
        made("field", field(folder=str(frames)))


@pytest.mark.parametrize("source", ["archive", "scenes"])
def test_folders_need_a_source_that_has_them(source):
    scenes = {"scenes": {"train": 2, "test": 2}} if source == "scenes" else {}
    with pytest.raises(ValueError, match=f"'folders' or 'samples', not '{source}'"):
        field(source=source, **scenes)


def test_only_the_own_folders_decide_whether_raw_files_are_others(frames):
    found = given_paths(field(folder=str(frames)))
    assert found == {
        "folders.modalities.red.folder": f"{frames}/field/red",
        "folders.modalities.nir.folder": f"{frames}/field/nir",
        "folders.masks": f"{frames}/field/masks",
        "folders.split": f"{frames}/field/split.csv",
    }


def test_the_doctor_looks_below_the_folder_of_the_samples(frames, monkeypatch):
    config = parse_config(
        {"scale": "x", "methods": [], "seeds": [], "scenarios": {}, "datasets": {"field": FIELD}}
    )
    assert [f.subject for f in doctor.sources(config)] == ["datasets.field.folder ($DECUR_SAMPLES)"]
    monkeypatch.setenv("DECUR_SAMPLES", str(frames))
    assert not list(doctor.sources(config))
    (frames / "field/nir").rename(frames / "gone")
    (found,) = doctor.sources(config)
    assert found.subject == "datasets.field.folders.modalities.nir.folder"
    assert found.found == f"{frames}/field/nir: not found"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(load_config(TRIALS).datasets))
def test_the_real_frames_are_read(real_frames, tmp_path, monkeypatch, name):
    chosen = load_config(TRIALS).datasets[name]
    assert chosen.folders is not None
    if not (real_frames / chosen.folders.modalities.popitem()[1].folder).is_dir():
        pytest.skip(f"{name}: no frames of it")
    monkeypatch.chdir(tmp_path)
    shards = made(name, chosen.model_copy(update={"folder": str(real_frames)}))
    assert set(shards.index["split"]) == {"train", "test"}
    assert (shards.index.groupby("place")["split"].nunique() == 1).all()
