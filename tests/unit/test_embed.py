"""Features of own rasters and images: equal to the backbone's by hand, in the right place."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from PIL import Image
from rasterio import Affine

from decur.cli import main
from decur.embed import embed_images, embed_raster, load_encoder, rasters
from decur.errors import DecurError
from decur.imagery.bands import elevation_to_uint8, reflectance_to_uint8, sar_db_to_uint8
from decur.imagery.hha import depth_to_hha
from decur.weights import read_weights
from decur.weights.files import save_weights
from decur.weights.net_input import net_input
from tests.support.pages import blocks
from tests.support.weights import WINDOW, save

PLACE = Affine(10, 0, 500_000, 0, -10, 6_000_000)
LIMITS = {"thermal": [[270.0, 310.0]], "photo": None}


def write(path, image, **more):
    count, height, width = image.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width}
    profile |= {"dtype": image.dtype.name, "crs": "EPSG:32632", "transform": PLACE}
    with rasterio.open(path, "w", **profile | more) as file:
        file.write(image)
    return image


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A model, its weights, and a scene of 80 x 112 pixels."""
    monkeypatch.chdir(tmp_path)
    bands = {"photo": ["r", "g", "b"], "thermal": ["kelvin"]}
    model = save(tmp_path / "weights.safetensors", bands, limits=LIMITS)
    scene = np.random.default_rng(0).normal(290, 8, (1, 80, 112)).astype(np.float32)
    return model, write("scene.tif", scene)


def by_hand(model, branch, stored):
    with torch.inference_mode():
        return model.backbones[branch](torch.from_numpy(stored)[None] / 255)[0].numpy()


def run(command: str) -> None:
    assert main(shlex.split(command)) == 0


def test_a_windows_features_are_those_of_the_backbone_on_its_pixels(own):
    model, scene = own
    grid = embed_raster(load_encoder("weights.safetensors", "thermal"), "scene.tif", stride=16)
    assert grid.features.shape == (4, 6, 128)
    for row, column in ((0, 0), (3, 5), (1, 4)):
        y, x = 16 * row, 16 * column
        window = scene[:, y : y + WINDOW, x : x + WINDOW]
        stored = ((window.astype(np.float64) - 270) / 40 * 255).clip(0, 255).astype(np.uint8)
        np.testing.assert_allclose(
            grid.features[row, column], by_hand(model, 1, stored), rtol=1e-4, atol=1e-6
        )


def test_a_whole_image_of_any_size_is_seen_as_model_cards_say(own):
    model, _ = own
    photo = np.random.default_rng(0).integers(0, 256, (70, 101, 3), np.uint8)
    Image.fromarray(photo).save("photo.png")
    encoder = load_encoder("weights.safetensors", "photo")
    with torch.inference_mode():
        expected = model.backbones[0](net_input(photo.transpose(2, 0, 1), encoder.transform)[None])
    np.testing.assert_allclose(embed_images(encoder, ["photo.png"]), expected, rtol=1e-5, atol=1e-6)


def test_an_imported_backbone_sees_what_its_file_says(own):
    """Its own scaling, mean and deviation, and its one modality without being told."""
    tensors, metadata = read_weights(Path("weights.safetensors"))
    kept = {name: t for name, t in tensors.items() if name.startswith("backbones.1.")}
    how = {
        "bands": ["kelvin"],
        **{"scaling": "stretch", "percentiles": None, "black": [260.0], "white": [320.0]},
        **{"size": WINDOW, "mean": [0.4], "std": [0.2]},
    }
    record = metadata.model_copy(update={"preprocessing": {"thermal": how}})
    save_weights(Path("imported.safetensors"), kept, record)
    model, scene = own
    encoder = load_encoder("imported.safetensors")
    levels = (scene[:, :WINDOW, :WINDOW] - np.float32(260)) / 60 * 255
    stored = levels.clip(0, 255).astype(np.uint8)
    with torch.inference_mode():
        seen = (torch.from_numpy(stored)[None] / 255 - 0.4) / 0.2
        expected = model.backbones[1](seen)[0].numpy()
    found = embed_raster(encoder, "scene.tif").features[0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_a_raster_is_read_a_batch_of_windows_at_a_time(own, monkeypatch):
    _, scene = own
    encoder = load_encoder("weights.safetensors", "thermal")
    expected = embed_raster(encoder, "scene.tif", stride=8).features
    asked = []

    def counted(encoder, path, file, order, window=None):
        asked.append(window.height * window.width)
        return read(encoder, path, file, order, window)

    read = rasters.read_bands
    monkeypatch.setattr(rasters, "check_raster", lambda *args: None)
    monkeypatch.setattr(rasters, "read_bands", counted)
    found = embed_raster(encoder, "scene.tif", stride=8, batch=3).features
    assert max(asked) == WINDOW * (2 * 8 + WINDOW) < scene.size / 5
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_cells_lie_on_the_centres_of_their_windows(own):
    run("embed weights.safetensors scene.tif --modality thermal --stride 16 --out f.tif")
    with rasterio.open("f.tif") as file:
        assert (file.count, file.height, file.width) == (128, 4, 6)
        assert file.crs == "EPSG:32632" and file.profile["compress"] == "deflate"
        assert file.profile["tiled"] and np.isnan(file.nodata)
        x, y = file.xy(2, 3)  # of the cell's centre
        assert json.loads(file.tags()["decur"])["modality"] == "thermal"
    assert (x, y) == PLACE @ (3 * 16 + WINDOW / 2, 2 * 16 + WINDOW / 2)


def test_parquet_npy_and_geotiff_hold_the_same_numbers(own):
    command = "embed weights.safetensors scene.tif --modality thermal --stride 24 --out"
    for out in ("f.tif", "f.parquet", "f.npy", "folder"):
        run(f"{command} {out}")
    with rasterio.open("f.tif") as file:
        grid = file.read().transpose(1, 2, 0)
        centres = [file.xy(r, c) for r in range(file.height) for c in range(file.width)]
    np.testing.assert_array_equal(np.load("f.npy"), grid)
    with rasterio.open("folder/scene.tif") as file:
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), grid)
    frame = pd.read_parquet("f.parquet")
    np.testing.assert_array_equal(np.stack(frame["features"]).reshape(grid.shape), grid)
    np.testing.assert_allclose(frame[["x", "y"]], centres)
    assert frame["crs"].eq("EPSG:32632").all() and frame["file"].eq("scene.tif").all()
    assert frame[["row", "col"]].iloc[-1].tolist() == [48, 96]  # reaching beyond the edge


def test_windows_without_data_are_nan_and_small_gaps_are_their_surroundings(own):
    model, scene = own
    holed = scene.copy()
    holed[:, :, :40] = -9999
    write("holed.tif", holed, nodata=-9999)
    encoder = load_encoder("weights.safetensors", "thermal")
    found = embed_raster(encoder, "holed.tif").features
    assert np.isnan(found[:, 0]).all()  # 40 columns: the first window, a quarter of the second
    assert np.isfinite(found[:2, 1:3]).all()
    filled = holed[:, :WINDOW, 32:64].copy()
    filled[:, :, :8] = filled[:, :, 8:].mean()
    stored = ((filled.astype(np.float64) - 270) / 40 * 255).clip(0, 255).astype(np.uint8)
    np.testing.assert_allclose(found[0, 1], by_hand(model, 1, stored), rtol=1e-4, atol=1e-6)
    write("nan.tif", np.where(holed == -9999, np.float32(np.nan), holed))
    np.testing.assert_array_equal(embed_raster(encoder, "nan.tif").features, found)


def test_the_scaling_is_that_of_the_pretraining_data_set(tmp_path):
    rng = np.random.default_rng(0)
    cases = {
        ("ssl4eo-s12", "sar"): (
            rng.normal(-15, 5, (2, WINDOW, WINDOW)).astype(np.float32),
            lambda x: sar_db_to_uint8(x, (-12.54847273, -20.19237134), (5.25697717, 5.91150917)),
        ),
        ("ssl4eo-s12", "optical"): (
            rng.integers(0, 9000, (13, WINDOW, WINDOW), dtype=np.uint16),
            reflectance_to_uint8,
        ),
        ("geonrw", "dem"): (
            rng.normal(80, 9, (1, WINDOW, WINDOW)).astype(np.float32),
            elevation_to_uint8,
        ),
    }
    for (dataset, modality), (image, scale) in cases.items():
        bands = {modality: [str(i) for i in range(len(image))], "other": ["x"]}
        model = save(tmp_path / f"{modality}.safetensors", bands, dataset)
        write(tmp_path / f"{modality}.tif", image)
        encoder = load_encoder(tmp_path / f"{modality}.safetensors", modality)
        found = embed_raster(encoder, tmp_path / f"{modality}.tif").features[0, 0]
        np.testing.assert_allclose(
            found, by_hand(model, 0, scale(image)), rtol=1e-4, atol=1e-6, err_msg=modality
        )
        other = load_encoder(tmp_path / f"{modality}.safetensors", modality, scale="-50,10000")
        assert not np.allclose(embed_raster(other, tmp_path / f"{modality}.tif").features, found)


def test_whole_images_give_a_vector_each(own):
    model, _ = own
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (WINDOW, WINDOW, 3), dtype=np.uint8) for _ in range(3)]
    for name, image in zip("abc", images, strict=True):
        Image.fromarray(image).save(f"{name}.png")
    run("embed weights.safetensors a.png b.png c.png --modality photo --batch 2 --out p.npy")
    run("embed weights.safetensors a.png b.png c.png --modality photo --out p.parquet")
    expected = [by_hand(model, 0, image.transpose(2, 0, 1)) for image in images]
    np.testing.assert_allclose(np.load("p.npy"), expected, rtol=1e-4, atol=1e-6)
    frame = pd.read_parquet("p.parquet")
    assert frame["file"].tolist() == ["a.png", "b.png", "c.png"]
    np.testing.assert_allclose(np.stack(frame["features"]), expected, rtol=1e-4, atol=1e-6)


def test_depth_becomes_hha_for_a_backbone_of_hha(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bands = {"rgb": ["r", "g", "b"], "hha": ["disparity", "height", "angle"]}
    presets = {"rgb": "rgb-indoor", "hha": "hha"}
    model = save(tmp_path / "w.safetensors", bands, "sun-rgbd", presets=presets)
    depth = np.linspace(1500, 4000, WINDOW * WINDOW).reshape(WINDOW, WINDOW).astype(np.uint16)
    Image.fromarray(depth).save("depth.png")
    matrix = np.array([[30.0, 0, 16], [0, 30, 16], [0, 0, 1]])
    np.savetxt("camera.txt", matrix)
    run("embed w.safetensors depth.png --modality hha --intrinsics camera.txt --out d.npy")
    hha = depth_to_hha(depth.astype(np.float32) / 1000, matrix).transpose(2, 0, 1)
    mean, std = (
        np.array(v, np.float32)[:, None, None]
        for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    x = torch.from_numpy((hha / np.float32(255) - mean) / std)[None]
    with torch.inference_mode():
        expected = model.backbones[1](x).numpy()
    np.testing.assert_allclose(np.load("d.npy"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("scene.tif --out f.tif", r"modalities photo and thermal; choose one"),
        ("scene.tif --modality sar --out f.tif", r"photo and thermal, not 'sar'"),
        ("scene.tif --modality photo --out f.tif", r"has 1 bands, but photo .* expects 3: r, g"),
        ("scene.tif --modality thermal --stride 99 --out f.tif", r"stride 99: expected 1 to 32"),
        ("scene.tif --modality thermal --out f.csv", r"expected \.tif, \.parquet, \.npy or"),
        ("scene.tif --modality thermal --whole --out f.tif", r"whole images have no grid"),
        ("scene.tif scene.tif --modality thermal --out f.npy", r"2 rasters have one grid each"),
        ("scene.tif --modality thermal --scale bright --out f.tif", r"scale 'bright': expected"),
        ("scene.tif --modality thermal --scale stored --out f.tif", r"scene\.tif: is float32"),
        ("none.tif --modality thermal --out f.tif", r"none\.tif: cannot be read"),
        ("scene.tif --modality thermal --out scene.tif", r"is an input; choose another name"),
        ("scene.tif --modality thermal --device moon --out f.tif", r"device 'moon'"),
    ],
)  # fmt: skip
def test_what_cannot_be_embedded_is_said_in_one_line(own, capsys, arguments, message):
    before = {p.name for p in Path().iterdir()}
    assert main(["embed", "weights.safetensors", *shlex.split(arguments)]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    with pytest.raises(DecurError, match=message):
        raise DecurError(said[0])
    assert {p.name for p in Path().iterdir()} == before


def test_the_page_of_python_gives_the_numbers_of_its_commands(own, capsys):
    commands = [text for _, text in blocks("embed.md", "sh")]
    rng = np.random.default_rng(1)
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (48, 40, 3), dtype=np.uint8)).save(f"{name}.png")
    for command in commands:
        run(command.strip().removeprefix("decur "))
    ((_, source),) = blocks("embed.md", "python")
    assert len([line for line in source.splitlines() if line]) <= 5
    said: dict = {}
    exec(source, said)
    grid = said["grid"].features
    assert f"{grid.shape}" in capsys.readouterr().out
    with rasterio.open("features.tif") as file:
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), grid)
        assert file.transform == said["grid"].windows.grid
    frame = pd.read_parquet("features.parquet")
    np.testing.assert_array_equal(np.stack(frame["features"]).reshape(grid.shape), grid)
    photos = embed_images(load_encoder("weights.safetensors", "photo"), ["a.png", "b.png"])
    np.testing.assert_array_equal(np.load("photos.npy"), photos)


def test_real_tiles_and_patches_are_embedded(real_frames, tmp_path):
    tile = min((real_frames / "GeoNRW").glob("*/*_seg.tif"))
    save(tmp_path / "seg.safetensors", {"seg": ["class"], "other": ["x"]})
    encoder = load_encoder(tmp_path / "seg.safetensors", "seg", scale="0,10")
    grid = embed_raster(encoder, tile, stride=32)
    with rasterio.open(tile) as file:
        assert grid.windows.crs == file.crs.to_string()
        window = file.read(window=rasterio.windows.Window(96, 64, WINDOW, WINDOW))
    np.testing.assert_allclose(grid.features[2, 3], encoder([window])[0], rtol=1e-4, atol=1e-6)
    patch = min((real_frames / "SSL4EO-S12" / "s1").glob("*/*/VV.tif"))
    save(tmp_path / "sar.safetensors", {"sar": ["VV"], "optical": ["x"]})
    encoder = load_encoder(tmp_path / "sar.safetensors", "sar", scale="-25,5")
    found = embed_raster(encoder, patch).features
    assert np.isfinite(found).all() and found.std(axis=(0, 1)).max() > 0
