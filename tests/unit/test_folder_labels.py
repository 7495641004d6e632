"""Labels of own images: every mask value means something, and every class is shown somewhere."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from decur.config import DatasetSettings, FoldersSettings
from decur.datasets.folder_labels import class_indices
from decur.datasets.folder_limits import with_limits
from decur.download.run import download
from decur.errors import DecurError
from decur.preprocess.run import preprocess
from decur.shards import PairedShards
from tests.support.rasters import write_bare_tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

COUNT, SIDE = 12, 16
TEST = range(8, COUNT)
"""Images of the split `test` in split.csv."""

RNG = np.random.default_rng(0)
PHOTO, KELVIN = RNG.integers(1, 256, (COUNT, SIDE, SIDE), np.uint8), RNG.normal(290, 5, (COUNT, 1))
WATER = RNG.random((COUNT, SIDE, SIDE)) < 0.5


def settings(pixels: int = SIDE, bad_samples: str = "stop", **own) -> DatasetSettings:
    tree = {
        "modalities": {
            "photo": {"folder": "photo", "bands": ["grey"]},
            "heat": {"folder": "heat", "bands": ["kelvin"], "scale": [270, 310]},
        },
        "masks": "mask",
        "classes": ["land", "water"],
        "split": "split.csv",
    }
    return DatasetSettings.model_validate(
        {
            "source": "folders",
            "pixels": pixels,
            "bad_samples": bad_samples,
            "folders": {key: value for key, value in (tree | own).items() if value is not None},
        }
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Pairs of images with a split, and a folder for masks."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo", "heat", "mask"):
        Path(name).mkdir()
    for i in range(COUNT):
        Image.fromarray(PHOTO[i]).save(f"photo/p{i}.png")
        write_bare_tiff(Path(f"heat/p{i}.tif"), KELVIN[i] + np.zeros((1, SIDE, SIDE)))
    write_split({f"p{i}": "test" if i in TEST else "train" for i in range(COUNT)})
    return tmp_path


def write_split(splits: dict[str, str]) -> None:
    lines = [f"{name},{split}" for name, split in splits.items()]
    Path("split.csv").write_text("\n".join(["id,split", *lines]))


def write_masks(values=(0, 1), dtype="uint8") -> None:
    for i in range(COUNT):
        mask = np.where(WATER[i], values[1], values[0]).astype(dtype)
        write_bare_tiff(Path(f"mask/p{i}.tif"), mask[None])


def made(chosen: DatasetSettings) -> PairedShards:
    download("mine", chosen, Path("raw"))
    preprocess("mine", chosen, Path("raw"), Path("shards"))
    return PairedShards("shards")


def refused(chosen: DatasetSettings) -> str:
    with pytest.raises(DecurError) as raised:
        made(chosen)
    assert not Path("shards/card.json").exists()
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def water_of(shards: PairedShards) -> np.ndarray:
    order = [int(name.removeprefix("p")) for name in shards.index["id"]]
    found = shards.masks(np.arange(len(shards)))
    np.testing.assert_array_equal(found != shards.card.ignore, True)
    return found[np.argsort(order)]


def test_masks_of_0_and_255_leave_one_class_which_is_an_error_that_names_the_remedy(place):
    write_masks((0, 255))
    told = refused(settings())
    assert "no mask shows 'water'" in told and "0 ('land'), 255 (ignored)" in told
    remedy = json.loads(re.search(r"`mask_values: (\[.*?\])`", told)[1])
    np.testing.assert_array_equal(water_of(made(settings(mask_values=remedy))), WATER)


def test_the_remedy_is_right_whichever_class_is_the_255(place):
    write_masks((255, 1))
    assert "`mask_values: [255, 1]`" in refused(settings())
    np.testing.assert_array_equal(water_of(made(settings(mask_values=[255, 1]))), WATER)


@pytest.mark.parametrize(
    ("values", "dtype", "own"),
    [
        ((1, 2), "uint8", {"mask_values": [1, 2]}),
        ((1, 2), "uint8", {"mask_values": [1, 2], "ignore": 0}),
        ((0, 65535), "uint16", {"mask_values": [0, 65535]}),
        ((-1, 300), "int16", {"mask_values": [-1, 300], "ignore": -9999}),
        ((0, 1), "float32", {}),
        ((7, 255), "uint8", {"mask_values": [7, 255], "ignore": 0}),
    ],
)
def test_masks_of_any_type_and_values_are_read_as_their_classes(place, values, dtype, own):
    write_masks(values, dtype)
    np.testing.assert_array_equal(water_of(made(settings(**own))), WATER)


def test_minus_one_can_stand_for_not_labelled(place):
    write_masks((0, 1), "int16")
    mask = np.where(WATER[3], 1, 0)
    mask[:4] = -1
    write_bare_tiff(Path("mask/p3.tif"), mask[None].astype("int16"))
    assert "label -1 is neither 0..1 nor 255" in refused(settings())
    shards = made(settings(ignore=-1))
    stored = shards.masks(np.flatnonzero(shards.index["id"] == "p3"))[0]
    assert (stored[:4] == shards.card.ignore).all()
    np.testing.assert_array_equal(stored[4:], WATER[3, 4:])


@pytest.mark.parametrize(
    ("values", "dtype", "label"),
    [((1, 2), "uint8", "2"), ((0, 300), "uint16", "300"), ((0, 0.5), "float32", "0.5")],
)
def test_a_value_that_is_no_class_ends_in_a_line_with_the_remedy(place, values, dtype, label):
    write_masks(values, dtype)
    told = refused(settings())
    assert f"mask/p0.tif: label {label} is neither 0..1 nor 255" in told
    assert "mask_values" in told


def test_pixels_that_are_no_number_are_no_class(place):
    write_masks((0, np.nan), "float32")
    assert "label nan is neither" in refused(settings())


def save_png(name: str, image: Image.Image) -> None:
    Path("mask", f"{name}.png").unlink(missing_ok=True)
    image.save(Path("mask", f"{name}.png"))


def test_masks_of_one_bit_are_masks(place):
    for i in range(COUNT):
        save_png(f"p{i}", Image.fromarray(WATER[i]))
    np.testing.assert_array_equal(water_of(made(settings())), WATER)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_no_mask(place, mode):
    for i in range(COUNT):
        save_png(f"p{i}", Image.fromarray(WATER[i].astype(np.uint8)).convert(mode))
    told = refused(settings())
    assert f"mask/p0.png: has {len(mode)} bands, expected 1" in told and "colours" in told


def with_palette(water: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(water.astype(np.uint8))
    image.putpalette([channel for colour in colours for channel in colour])
    return image


GREEN, BLUE = (0, 120, 0), (0, 0, 120)


def test_masks_with_one_palette_are_masks_and_with_several_are_not(place):
    for i in range(COUNT):
        save_png(f"p{i}", with_palette(WATER[i], GREEN, BLUE))
    np.testing.assert_array_equal(water_of(made(settings())), WATER)
    save_png("p5", with_palette(~WATER[5], BLUE, GREEN))  # the same picture
    told = refused(settings())
    assert re.search(r"mask/p5\.png: the palette gives value 0 another colour than .*p0\.png", told)


def test_a_class_that_no_mask_shows_is_an_error(place):
    write_masks()
    told = refused(settings(classes=["land", "water", "ice"]))
    assert "datasets.mine.folders.classes: no mask shows 'ice'" in told
    assert "255" not in told and "remove 'ice' from `classes`" in told


def test_masks_that_label_nothing_are_an_error(place):
    write_masks((255, 255))
    assert "no mask shows 'land'; the masks have 255 (ignored)" in refused(settings())


def test_a_class_of_test_images_alone_is_said(place, capsys):
    write_masks()
    write_bare_tiff(Path("mask/p8.tif"), np.full((1, SIDE, SIDE), 2, np.uint8))
    made(settings(classes=["land", "water", "ice"]))
    assert "no label of the split 'train' shows ice" in capsys.readouterr().out


def test_a_class_that_no_line_of_the_csv_has_is_an_error(place):
    lines = [f"p{i},{'quay' if i % 2 else 'ship'}" for i in range(COUNT)]
    Path("labels.csv").write_text("\n".join(["id,label", *lines]))
    own = {"masks": None, "labels": "labels.csv"}
    told = refused(settings(classes=["quay", "ship", "buoy"], **own))
    assert "no label shows 'buoy'; remove 'buoy' from `classes`" in told
    assert made(settings(classes=["quay", "ship"], **own)).index["labelled"].all()


def test_a_second_label_that_is_parted_by_a_comma_is_not_dropped(place):
    Path("labels.csv").write_text("id,label\np1,quay,ship\n")
    told = refused(settings(classes=["quay", "ship"], masks=None, labels="labels.csv"))
    assert "labels.csv: the line of 'p1' has more columns" in told and "';'" in told


@pytest.mark.parametrize("what", ["mask", "labels.csv", "split.csv"])
def test_a_name_without_an_image_is_a_fault_of_its_list(place, what):
    write_masks()
    own = {}
    if what == "mask":
        Path("mask/p0.tif").rename("mask/p00.tif")
    elif what == "split.csv":
        write_split(
            {f"p{i}": "test" if i in TEST else "train" for i in range(COUNT)} | {"p00": "test"}
        )
    else:
        lines = [f"p{i or '00'},{'land' if i % 2 else 'water'}" for i in range(COUNT)]
        Path(what).write_text("\n".join(["id,label", *lines]))
        own = {"masks": None, "labels": what}
    told = refused(settings(**own))
    assert f"raw/{what}: has 'p00', but no image has that name" in told
    if what == "split.csv":  # the image may be lost
        assert "1 of 5 samples of the evaluation split" in refused(settings(bad_samples="skip"))
    else:
        assert len(made(settings(bad_samples="skip", **own))) == COUNT


def test_a_misspelt_split_is_an_error_even_where_bad_samples_are_skipped(place):
    write_masks()
    write_split({f"p{i}": "Test" if i in TEST else "train" for i in range(COUNT)})
    for bad_samples in ("stop", "skip"):
        told = refused(settings(bad_samples=bad_samples))
        assert "split.csv: split 'Test' of 'p8' is none of train, test" in told


def test_a_name_that_a_split_has_twice_is_an_error(place):
    write_masks()
    with Path("split.csv").open("a") as file:
        file.write("\np0,test")
    assert "split.csv: id 'p0' occurs more than once" in refused(settings())


def test_all_squares_of_a_bad_evaluation_image_count_as_lost(place):
    write_masks()
    Path("heat/p8.tif").write_bytes(b"rubbish")
    Path("photo/p9.png").unlink()
    told = refused(settings(pixels=16, cut=True, bad_samples="skip"))
    assert "2 of 4 samples of the evaluation split 'test' are bad, more than 1%" in told
    Path("heat/p8.tif").unlink()
    for i in range(COUNT):
        wide = np.tile(KELVIN[i] + np.zeros((1, SIDE, SIDE)), (1, 2, 2))
        write_bare_tiff(Path(f"heat/p{i}.tif"), wide)
        Image.fromarray(np.tile(PHOTO[i], (2, 2))).save(f"photo/p{i}.png")
        write_bare_tiff(Path(f"mask/p{i}.tif"), np.tile(WATER[i], (2, 2))[None].astype(np.uint8))
    Path("heat/p8.tif").write_bytes(b"rubbish")
    assert "4 of 16 samples" in refused(settings(cut=True, bad_samples="skip"))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"classes": ["water"]}, "only 'water'"),
        ({"classes": ["a", "a"]}, "'a' comes more than once"),
        ({"mask_values": [0]}, "1 values for 2 classes"),
        ({"mask_values": [3, 3]}, "a value twice"),
        ({"mask_values": [0, 254], "ignore": 254}, "254 is one of the values"),
        ({"masks": None, "labels": "labels.csv", "mask_values": [0, 1]}, "there are no 'masks'"),
    ],
)
def test_classes_that_cannot_be_are_refused(own, message):
    with pytest.raises(ValidationError, match=message):
        settings(**own)


@given(
    st.lists(st.integers(-(2**15), 2**15 - 1), min_size=2, max_size=9, unique=True),
    st.integers(-(2**15), 2**15 - 1),
    st.integers(0, 2**32 - 1),
)
def test_a_mask_is_the_place_of_its_values_among_those_of_the_classes(values, ignore, seed):
    if ignore in values and ignore != 255:
        return
    own = settings(
        classes=[f"c{i}" for i in range(len(values))], mask_values=values, ignore=ignore
    ).folders
    assert FoldersSettings.model_validate(own.model_dump(mode="json")) == own
    known = np.array([*values, *([] if ignore in values else [ignore])])
    chosen = np.random.default_rng(seed).integers(0, len(known), (3, 5))
    found = class_indices(known[chosen].astype(np.int16), own, Path("m.png"))
    expected = np.where(chosen < len(values), chosen, own.stored_ignore)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8 and own.stored_ignore not in range(len(values))
    odd = next(v for v in range(1000) if v not in known)
    with pytest.raises(DecurError, match=rf"^m\.png: label {odd} is"):
        class_indices(np.array([[values[0], odd]]), own, Path("m.png"))


def measured(chosen: DatasetSettings) -> dict:
    """All that is measured on samples, and the training samples as they are stored."""
    download("mine", chosen, Path("raw"))
    limits = with_limits("mine", chosen, Path("raw")).folders.modalities
    shards = made(chosen)
    rows = shards.rows("train")
    return {
        "limits": {name: folder.limits for name, folder in limits.items()},
        "card": [m.model_dump(exclude={"shape"}) for m in shards.card.modalities],
        "stored": {m: shards.batch(m, rows).tolist() for m in ("photo", "heat")},
    }


def test_no_limit_and_no_statistic_sees_a_test_sample(place):
    write_masks()
    tree = settings().model_dump()
    for folder in tree["folders"]["modalities"].values():
        folder["scale"] = "percentiles"
    chosen = DatasetSettings.model_validate(tree)
    before = measured(chosen)
    rng = np.random.default_rng(1)
    for i in TEST:
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), np.uint8) // 9).save(f"photo/p{i}.png")
        write_bare_tiff(Path(f"heat/p{i}.tif"), rng.normal(1e6, 1e5, (1, SIDE, SIDE)))
    assert measured(chosen) == before
    Image.fromarray(PHOTO[0] // 2).save("photo/p0.png")
    after = measured(chosen)
    assert all(after[key] != before[key] for key in before)


def test_without_training_images_no_limit_is_measured(place):
    write_masks()
    write_split({f"p{i}": "test" for i in range(COUNT)})
    tree = settings().model_dump()
    tree["folders"]["modalities"]["heat"]["scale"] = "percentiles"
    told = refused(DatasetSettings.model_validate(tree))
    assert "measured on training images, but there are none" in told


def test_where_all_masks_are_faulty_their_fault_is_told_before_any_limit_is_measured(place):
    for i in range(COUNT):
        Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(f"mask/p{i}.png")
    tree = settings().model_dump()
    tree["folders"]["modalities"]["heat"]["scale"] = "percentiles"
    told = refused(DatasetSettings.model_validate(tree))
    assert "mask" in told and "training images" not in told


def test_labels_of_whole_images_follow_from_masks(place):
    write_masks((1, 2))
    Path("mask/p1.tif").unlink()
    corner = np.zeros((1, SIDE, SIDE), np.uint8)
    write_bare_tiff(Path("mask/p2.tif"), corner)  # nothing is labelled
    corner[0, :4, :4] = 2  # 16 of 256 pixels
    write_bare_tiff(Path("mask/p3.tif"), corner)
    for share, shown in ((1 / 16, [0, 1]), (1 / 15, [0, 0])):
        own = {"mask_values": [1, 2], "ignore": 0, "labels_from_masks": share}
        shards = made(settings(**own))
        by_id = dict(zip(shards.index["id"], shards.index["labels"], strict=True))
        assert by_id["p0"].tolist() == [1, 1] and by_id["p3"].tolist() == shown
        assert set(by_id) - set(shards.index["id"][shards.index["labelled"]]) == {"p1", "p2"}
        assert shards.card.ignore is None and "mask" not in shards.arrays(0)
