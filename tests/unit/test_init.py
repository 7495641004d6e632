"""`decur init`: a configuration that fits the folders, whatever they contain."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from decur.cli import main
from decur.config import Config, load_config
from decur.datasets.folder_limits import with_limits
from decur.datasets.folders import Folders
from decur.planning.own_config import init_config, sizes
from decur.planning.own_images import inspect

RNG = np.random.default_rng(0)
SIZE = (40, 48)


def png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def tif(path: Path, image: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = options.pop("names", ())
    colours = options.pop("colours", ())
    bands, height, width = image.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width}
    with rasterio.open(path, "w", dtype=image.dtype, **profile, **options) as file:
        file.write(image)
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
        if colours:
            file.colorinterp = colours


def photos(folder: Path, count: int = 12, size: tuple[int, int] = SIZE) -> None:
    for number in range(count):
        png(folder / f"p{number}.png", RNG.integers(0, 256, (*size, 3), dtype=np.uint8))


def measured(folder: Path, count: int = 12, size: tuple[int, int] = SIZE, **options: Any) -> None:
    for number in range(count):
        tif(folder / f"p{number}.tif", RNG.normal(290, 4, (1, *size)).astype(np.float32), **options)


def masks(folder: Path, values: tuple[int, ...], count: int = 12, dtype: str = "uint8") -> None:
    for number in range(count):
        tif(folder / f"p{number}.tif", RNG.choice(values, (1, *SIZE)).astype(dtype))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*folders: str, labels: str | None = None) -> Config:
    """The configuration of some folders, after every sample of them has been read by it."""
    init_config([Path(f) for f in folders], labels and Path(labels), Path("own.yaml"))
    config = load_config("own.yaml")
    settings = config.datasets["own"]
    module = Folders("own", settings.folders)
    raw = Path("raw")
    raw.mkdir()
    module.arrange_samples(Path(), raw)
    settings = with_limits("own", settings, raw)
    module = Folders("own", settings.folders)
    for record in module.scan(raw, settings):
        assert not record.fault
        module.read(record, settings)
    return config


def own(config: Config) -> Any:
    return config.datasets["own"].folders


def test_photographs_and_measurements_with_masks() -> None:
    photos(Path("photo"))
    measured(Path("thermal"))
    masks(Path("water"), (0, 1))
    config = made("photo", "thermal", labels="water")
    found = own(config)
    assert found.modalities["photo"].bands == ("red", "green", "blue")
    assert found.modalities["photo"].scale == "stored"
    assert found.modalities["thermal"].scale == "percentiles"
    assert (found.masks, len(found.classes), found.mask_values) == ("water", 2, None)
    scenario = config.scenarios["photo-thermal"]
    assert list(scenario.modalities.values()) == ["image", "measured"]
    assert config.transfer["own"].task == "segmentation"
    assert set(config.own_experiments) == {"transfer", "gallery", "alignment"}


def test_without_labels_there_is_only_the_alignment() -> None:
    photos(Path("photo"))
    measured(Path("thermal"))
    config = made("photo", "thermal")
    assert not config.transfer and set(config.own_experiments) == {"alignment"}


@pytest.mark.parametrize(
    ("values", "dtype", "mask_values", "ignore", "classes"),
    [
        ((0, 255), "uint8", (0, 255), 255, 2),
        ((0, 1, 2, 255), "uint8", None, 255, 3),
        ((1, 2, 3, 255), "uint8", (1, 2, 3), 255, 3),
        ((-1, 0, 1), "int16", None, -1, 2),
        ((10, 20, 300), "uint16", (10, 20, 300), 255, 3),
        ((0.0, 1.0), "float32", None, 255, 2),
    ],
)
def test_the_values_of_masks_become_classes(
    values: tuple[int, ...],
    dtype: str,
    mask_values: tuple[int, ...] | None,
    ignore: int,
    classes: int,
) -> None:
    photos(Path("photo"))
    photos(Path("other"))
    masks(Path("mask"), values, dtype=dtype)
    found = own(made("photo", "other", labels="mask"))
    assert (found.mask_values, found.ignore, len(found.classes)) == (mask_values, ignore, classes)


def test_a_csv_gives_classes_and_images_stay_whole() -> None:
    photos(Path("photo"), size=(300, 300))
    photos(Path("other"), size=(300, 300))
    lines = [f"p{n},{'ship;quay' if n % 2 else 'buoy'}" for n in range(12)]
    Path("labels.csv").write_text("\n".join(["id,label", *lines]))
    config = made("photo", "other", labels="labels.csv")
    assert own(config).classes == ("buoy", "quay", "ship") and not own(config).cut
    assert config.transfer["own"].task == "classification"


def test_large_images_are_cut_and_small_ones_are_not() -> None:
    photos(Path("large"), size=(300, 420), count=4)
    photos(Path("too"), size=(300, 420), count=4)
    found = made("large", "too")
    assert own(found).cut and found.datasets["own"].pixels == 128
    assert sizes(inspect([Path("large"), Path("too")], None, 128)).train == int(4 * 6 * 0.8)


@pytest.mark.parametrize("count", [3, 40, 900])
def test_a_run_takes_some_hundred_steps_with_any_number_of_samples(count: int) -> None:
    small = np.zeros((1, 16, 16), np.uint8)
    for folder in ("a", "b"):
        for number in range(count):
            tif(Path(folder) / f"{number}.tif", small)
    chosen = sizes(inspect([Path("a"), Path("b")], None, 128))
    assert 400 <= chosen.train // chosen.batch * chosen.epochs < 800
    assert chosen.batch <= max(2, chosen.train // 2)


def test_bands_are_named_by_the_files_and_counted_without_alpha() -> None:
    for number in range(3):
        rgba = RNG.integers(0, 256, (*SIZE, 4), dtype=np.uint8)
        rgba[..., 3] = 255
        png(Path("rgba") / f"p{number}.png", rgba)
        stack = RNG.integers(0, 9999, (4, *SIZE)).astype(np.uint16)
        tif(Path("s2") / f"p{number}.tif", stack, names=("B02", "B03", "B04", "B08"))
        four = RNG.integers(0, 256, (4, *SIZE)).astype(np.uint8)
        tif(Path("four") / f"p{number}.tif", four)
    found = own(made("rgba", "s2", "four"))
    assert found.modalities["rgba"].bands == ("red", "green", "blue")
    assert found.modalities["s2"].bands == ("B02", "B03", "B04", "B08")
    assert len(found.modalities["four"].bands) == 4


def test_a_tif_of_colours_is_a_photograph_whatever_the_order() -> None:
    colours = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    for number in range(3):
        image = RNG.integers(0, 256, (3, *SIZE)).astype(np.uint8)
        tif(Path("rgb") / f"p{number}.tif", image, photometric="RGB")
        tif(Path("bgr") / f"p{number}.tif", image, colours=colours)
    found = own(made("rgb", "bgr"))
    assert found.modalities["rgb"].bands == ("red", "green", "blue")
    assert sorted(found.modalities["bgr"].bands) == ["blue", "green", "red"]


def test_names_without_a_partner_and_pixels_without_data_are_skipped() -> None:
    photos(Path("photo"), count=13)
    measured(Path("thermal"), count=12)
    said = init_config([Path("photo"), Path("thermal")], None, Path("own.yaml"))
    assert any(line.startswith("warning: 1 names") for line in said)
    assert load_config("own.yaml").datasets["own"].bad_samples == "skip"


def test_missing_values_are_noticed() -> None:
    photos(Path("photo"))
    measured(Path("thermal"))
    gap = np.full((1, *SIZE), 290, np.float32)
    gap[0, :20] = np.nan
    tif(Path("thermal/p3.tif"), gap)
    init_config([Path("photo"), Path("thermal")], None, Path("own.yaml"))
    assert load_config("own.yaml").datasets["own"].bad_samples == "skip"


@pytest.mark.parametrize("kept", [0, 9, 2000])
def test_a_truncated_image_is_skipped_and_counted(kept: int) -> None:
    photos(Path("photo"))
    measured(Path("thermal"))
    path = Path("photo/p3.png")
    path.write_bytes(path.read_bytes()[:kept])
    said = init_config([Path("photo"), Path("thermal")], None, Path("own.yaml"))
    assert any(line.startswith("warning: 1 of the 12 pairs") for line in said)
    assert load_config("own.yaml").datasets["own"].bad_samples == "skip"


@pytest.mark.parametrize("name", ["with space", "ünï: #1", "'quoted' \"twice\"", "-dash", "on"])
def test_any_folder_name_survives_yaml(name: str) -> None:
    photos(Path(name) / "A (1)")
    photos(Path(name) / "mask")
    found = own(made(f"{name}/A (1)", f"{name}/mask"))
    assert found.modalities["a-1" if "a-1" in found.modalities else next(iter(found.modalities))]


def test_folders_of_one_name_are_told_apart_by_their_parents() -> None:
    photos(Path("day/images"))
    photos(Path("night/images"))
    assert set(own(made("day/images", "night/images")).modalities) == {"day-images", "night-images"}


def no_match() -> None:
    photos(Path("a"))
    png(Path("b/other.png"), np.zeros((*SIZE, 3), np.uint8))


def bands_differ() -> None:
    photos(Path("a"))
    photos(Path("b"))
    png(Path("b/p3.png"), np.zeros(SIZE, np.uint8))


def coloured_masks() -> None:
    photos(Path("a"))
    photos(Path("b"))
    photos(Path("labels"))


def no_classes() -> None:
    photos(Path("a"))
    photos(Path("b"))
    measured(Path("labels"))


def tiny_images() -> None:
    photos(Path("a"), size=(9, 9))
    photos(Path("b"), size=(9, 9))


def one_class() -> None:
    photos(Path("a"))
    photos(Path("b"))
    masks(Path("labels"), (1,))


def other_labels() -> None:
    photos(Path("a"))
    photos(Path("b"))
    png(Path("labels/other.png"), np.zeros(SIZE, np.uint8))


def empty() -> None:
    photos(Path("a"))
    Path("b").mkdir()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (no_match, "'other' in b"),
        (bands_differ, "b/p3.png: has 1 bands"),
        (coloured_masks, "labels/p0.png: has 3 bands"),
        (no_classes, "labels/p0.tif: has the value"),
        (tiny_images, "a: images of 9 x 9 pixels"),
        (one_class, "labels: the masks show [1]"),
        (other_labels, "labels: has no label"),
        (empty, "b: contains no image"),
        (lambda: photos(Path("a")), "b: no such folder"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(
    make: Callable[[], None], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make()
    words = ["--labels", "labels"] if Path("labels").exists() else []
    assert main(["init", "a", "b", *words]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line and not Path("own.yaml").exists()


def test_a_file_that_is_there_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    photos(Path("a"))
    photos(Path("b"))
    Path("own.yaml").write_text("mine")
    assert main(["init", "a", "b"]) != 0
    assert "own.yaml" in capsys.readouterr().err and Path("own.yaml").read_text() == "mine"


def test_one_folder_is_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    photos(Path("a"))
    assert main(["init", "a"]) != 0
    assert "one folder only" in capsys.readouterr().err
