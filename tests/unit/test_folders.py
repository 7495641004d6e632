"""Own folders of images: how they become samples, and what is said of those that cannot."""

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine

from decur import datasets
from decur.config import DatasetSettings, parse_config
from decur.datasets import scaling_in
from decur.datasets.folder_limits import with_limits
from decur.datasets.folders import Folders
from decur.download.run import download
from decur.errors import DecurError
from decur.preprocess.run import preprocess
from decur.shards import PairedShards
from tests.support.rasters import write_bare_tiff

COUNT = 8


def place(i: int) -> dict:
    return {"crs": "EPSG:32632", "transform": Affine(10, 0, 4000 * i, 0, -10, 6_000_000)}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Photographs 8 bit, heat float and georeferenced, masks of all but the first."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("photo", "heat", "mask"):
        Path(name).mkdir()
    for i in range(COUNT):
        photo = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(photo).save(f"photo/p{i}.png")
        write_bare_tiff(Path(f"heat/p{i}.tif"), rng.normal(290, 5, (2, 40, 48)), **place(i))
        if i:
            Image.fromarray(rng.integers(0, 3, (40, 48), dtype=np.uint8)).save(f"mask/p{i}.png")
    return tmp_path


def settings(pixels: int = 20, bad_samples: str = "stop", **own) -> DatasetSettings:
    tree = {
        "modalities": {
            "photo": {"folder": "photo", "bands": ["r", "g", "b"]},
            "heat": {
                "folder": "heat",
                "bands": ["day", "night"],
                "scale": [[270, 310], [280, 300]],
            },
        },
        "masks": "mask",
        "classes": ["a", "b", "c"],
        **own,
    }
    return DatasetSettings.model_validate(
        {"source": "folders", "pixels": pixels, "bad_samples": bad_samples, "folders": tree}
    )


def made(chosen: DatasetSettings) -> PairedShards:
    download("mine", chosen, Path("raw"))
    preprocess("mine", chosen, Path("raw"), Path("shards"))
    return PairedShards("shards")


def test_pairs_are_resized_scaled_and_labelled(folders):
    shards = made(settings(pixels=40))
    row = int(np.flatnonzero(shards.index["id"] == "p3")[0])
    arrays = shards.arrays(row)
    with rasterio.open("heat/p3.tif") as file:
        heat = file.read()
    day = np.array(
        Image.fromarray(np.clip((heat[0] - 270) / 40 * 255, 0, 255).astype(np.uint8)).resize(
            (40, 40), Image.Resampling.BILINEAR
        )
    )
    np.testing.assert_array_equal(arrays["heat"][0, 0], day)
    assert arrays["photo"].shape == (1, 3, 40, 40)
    assert set(np.unique(arrays["mask"])) == {0, 1, 2}
    first = int(np.flatnonzero(shards.index["id"] == "p0")[0])
    assert (shards.arrays(first)["mask"] == 255).all() and not shards.index["labelled"][first]


def test_what_is_stored_says_where_it_lies_and_how_it_was_scaled(folders):
    chosen = settings()
    chosen = chosen.model_copy(
        update={
            "folders": chosen.folders.model_copy(
                update={"modalities": dict(reversed(chosen.folders.modalities.items()))}
            )
        }
    )
    shards = made(chosen)
    limits = [scaling_in(shards.card, m.name).limits for m in shards.card.modalities]
    assert limits == [((270, 310), (280, 300)), None]
    row = int(np.flatnonzero(shards.index["id"] == "p2")[0])
    crs, transform = shards.georeference(row)
    assert crs == "EPSG:32632"
    np.testing.assert_allclose(transform, (24, 0, 8000, 0, -20, 6_000_000))


def test_large_images_are_cut_into_squares_of_one_split(folders):
    shards = made(settings(pixels=16, cut=True))
    index = shards.index
    assert len(index) == COUNT * 2 * 3  # of 40 x 48 pixels, 8 rows left out
    assert (index.groupby("place")["split"].nunique() == 1).all()
    photo = np.array(Image.open("photo/p5.png"))
    row = int(np.flatnonzero(index["id"] == "p5_1-2")[0])
    np.testing.assert_array_equal(
        shards.arrays(row)["photo"][0], photo[16:32, 32:48].transpose(2, 0, 1)
    )


def test_percentiles_are_of_the_training_images_alone(folders):
    splits = [["id", "split"], *([f"p{i}", "test" if i == 7 else "train"] for i in range(COUNT))]
    with Path("split.csv").open("w", newline="") as file:
        csv.writer(file).writerows(splits)
    write_bare_tiff(Path("heat/p7.tif"), np.full((2, 40, 48), 1e6))
    tree = settings(split="split.csv").model_dump()
    tree["folders"]["modalities"]["heat"]["scale"] = "percentiles"
    chosen = DatasetSettings.model_validate(tree)
    download("mine", chosen, Path("raw"))
    measured = with_limits("mine", chosen, Path("raw")).folders.modalities["heat"].scale
    values = []
    for i in range(7):
        with rasterio.open(f"heat/p{i}.tif") as file:
            values.append(file.read())
    expected = np.percentile(np.stack(values), (1, 99), axis=(0, 2, 3)).T
    np.testing.assert_allclose(measured, expected)


def test_the_split_by_hash_never_changes_and_keeps_its_share(folders):
    from decur.datasets.folder_lists import hashed_split

    found = [hashed_split(f"image-{i}", 0.25) for i in range(2000)]
    assert 0.22 < found.count("test") / len(found) < 0.28
    assert found[:8] == [hashed_split(f"image-{i}", 0.25) for i in range(8)]
    wider = [hashed_split(f"image-{i}", 0.5) for i in range(2000)]
    assert all(b == "test" for a, b in zip(found, wider, strict=True) if a == "test")


@pytest.mark.parametrize(
    ("limits", "colour"), [([1000, 9000], "black"), ([0, 1], "white"), ([[0, 1], [-9, 9]], "white")]
)
def test_limits_of_another_unit_are_one_line_before_anything_is_written(folders, limits, colour):
    heat = {"folder": "heat", "bands": ["day", "night"], "scale": limits}
    photo = {"folder": "photo", "bands": ["r", "g", "b"]}
    chosen = settings(modalities={"photo": photo, "heat": heat})
    with pytest.raises(DecurError, match=f"heat.scale: .* nearly all pixels {colour}: .* values"):
        made(chosen)
    assert not Path("shards").exists()


def test_labels_come_from_a_csv_and_some_images_have_none(folders):
    Path("labels.csv").write_text("id,label\np1,b\np2,c; a\n")
    shards = made(settings(masks=None, labels="labels.csv"))
    by_id = dict(zip(shards.index["id"], shards.index["labels"], strict=True))
    assert by_id["p1"].tolist() == [0, 1, 0] and by_id["p2"].tolist() == [1, 0, 1]
    assert by_id["p3"] is None
    assert set(shards.index["id"][shards.index["labelled"]]) == {"p1", "p2"}
    facts = datasets.facts("mine", shards.card)
    assert facts.classes == ("a", "b", "c") and facts.evaluation == "test"


def damage(name: str) -> None:
    if name == "partner":
        Path("heat/p4.tif").unlink()
    elif name == "size":
        write_bare_tiff(Path("heat/p4.tif"), np.full((2, 40, 40), 290.0))
    elif name == "bands":
        write_bare_tiff(Path("heat/p4.tif"), np.full((1, 40, 48), 290.0))
    elif name == "nan":
        write_bare_tiff(Path("heat/p4.tif"), np.full((2, 40, 48), np.nan))
    elif name == "nodata":
        write_bare_tiff(Path("heat/p4.tif"), np.full((2, 40, 48), -9999.0), nodata=-9999)
    elif name == "label":
        Image.fromarray(np.full((40, 48), 7, np.uint8)).save("mask/p4.png")
    elif name == "torn":
        Path("photo/p4.png").write_bytes(Path("photo/p4.png").read_bytes()[:500])
    elif name == "deep":
        Image.fromarray(np.full((40, 48), 300, np.uint16)).save("photo/p4.png")
    elif name == "elsewhere":
        write_bare_tiff(Path("heat/p4.tif"), np.full((2, 40, 48), 290.0), **place(4))
        write_bare_tiff(Path("mask/p4.tif"), np.zeros((1, 40, 48), np.uint8), **place(5))
        Path("mask/p4.png").unlink()


FAULTS = {
    "partner": r"raw/heat/p4: no image of this name, but raw/photo/p4\.png exists",
    "size": r"heat/p4\.tif: is 40 x 40 pixels, its partner .*p4\.png is 48 x 40",
    "bands": r"heat/p4\.tif: has 1 bands, expected 2",
    "nan": r"heat/p4\.tif: .* are not finite or have no data",
    "nodata": r"heat/p4\.tif: .* are not finite or have no data",
    "label": r"mask/p4\.png: label 7 is neither 0\.\.2 nor 255",
    "torn": r"photo/p4\.png: cannot be read",
    "deep": r"photo/p4\.png: has 1 bands, expected 3",
    "elsewhere": r"mask/p4\.tif: lies elsewhere than",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_image_is_one_line_or_one_line_of_the_quarantine(folders, name):
    damage(name)
    with pytest.raises(DecurError, match=FAULTS[name]):
        made(settings())
    shards = made(settings(bad_samples="skip"))
    assert len(shards) == COUNT - 1
    assert "p4" in Path("shards/quarantine.csv").read_text()


def test_a_label_that_is_no_class_and_a_split_that_is_none(folders):
    Path("labels.csv").write_text("id,label\np1,z\n")
    with pytest.raises(DecurError, match=r"labels\.csv: label 'z' of 'p1' is none of the classes"):
        made(settings(masks=None, labels="labels.csv"))
    Path("split.csv").write_text("id,split\np0,train\n")
    with pytest.raises(DecurError, match=r"split\.csv: has no line for 'p1'"):
        made(settings(split="split.csv"))


def test_folders_that_cannot_be_are_said_in_one_line(folders):
    with pytest.raises(DecurError, match=r"datasets\.mine\.folders\.masks: .*nowhere does not"):
        download("mine", settings(masks="nowhere"), Path("raw"))
    for path in Path("heat").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    download("mine", settings(), Path("raw"))
    with pytest.raises(DecurError, match=r"no name is in all folders \('p0' in .*'xp0' in"):
        Folders("mine", settings().folders).scan(Path("raw"), settings())
    with pytest.raises(DecurError, match=r"datasets\.ombria: is a built-in dataset"):
        datasets.load("ombria", settings())


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"classes": []}, "give 'classes' if and only if"),
        ({"labels": "labels.csv"}, "'masks' or 'labels', not both"),
        ({"modalities": {"photo": {"folder": "p", "bands": ["r"]}}}, "at least two"),
        (
            {"modalities": {n: {"folder": n, "bands": ["r"], "scale": [5, 5]} for n in "ab"}},
            r"\[5.0, 5.0\] is not a range",
        ),
    ],
)
def test_wrong_settings_are_said_in_one_line(own, message):
    tree = settings().model_dump(mode="json")
    tree["folders"] |= own
    scale = {"scale": "x", "methods": [], "seeds": [0], "scenarios": {}, "transfer": {}}
    with pytest.raises(DecurError, match=f"config: datasets.mine.folders.*{message}"):
        parse_config({**scale, "datasets": {"mine": tree}})
