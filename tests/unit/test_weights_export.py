"""Backbones for other libraries: each loads into its own model and gives the same features."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from decur.artifacts.provenance import provenance
from decur.artifacts.records import Weights
from decur.cli import main
from decur.datasets import geonrw, ssl4eo_s12
from decur.errors import DecurError
from decur.imagery.bands import elevation_to_uint8, reflectance_to_uint8, sar_db_to_uint8
from decur.models import build_backbone
from decur.shards import PairedShards
from decur.training.views import scaled, whole_view
from decur.weights import export, load_backbone, read_weights
from decur.weights.exporting import FORMATS
from decur.weights.files import branch_weights, save_weights
from decur.weights.net_input import describe, linear, net_input
from tests.support.pretraining import settings
from tests.support.released_files import disturbed

RUN = "pretrain/sar-optical/decur/default/seed-0"
BANDS = {
    name: list(m.bands)
    for name in ("sar", "optical")
    for m in ssl4eo_s12.DATASET.modalities
    if m.name == name
}
RGBD = {"rgb": "rgb-indoor", "hha": "hha"}


def write_run(root: Path, archs: tuple[str, str], **changes) -> Path:  # type: ignore[no-untyped-def]
    """The folder of a run whose backbones are of `archs`, as pretraining leaves it."""
    chosen = settings(
        dataset="ssl4eo-s12", arch=archs[0], archs={"optical": archs[1]}, crop=64, **changes
    )
    torch.manual_seed(0)
    tensors = {}
    for branch, (arch, chans) in enumerate(zip(archs, (2, 13), strict=True)):
        own = disturbed(build_backbone(arch, chans).state_dict())
        tensors |= {f"backbones.{branch}.{name}": t for name, t in own.items()}
    origin = provenance(chosen, {"ssl4eo-s12": "0123456789abcdef"}, ("torch",))
    folder = root / RUN
    record = Weights(provenance=origin, bands=BANDS)
    save_weights(folder / "weights.safetensors", tensors, record)
    return folder


def raw_image(modality: str, side: int = 80) -> np.ndarray:
    rng = np.random.default_rng(0)
    if modality == "sar":
        return rng.normal(-15, 6, (2, side, side)).astype(np.float32)
    return rng.integers(0, 12_000, (13, side, side)).astype(np.uint16)


def use(folder: Path, modality: str, monkeypatch) -> dict:  # type: ignore[no-untyped-def]
    """What the card's Python makes, run in the folder with an image `raw`."""
    monkeypatch.chdir(folder)
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    made = {"raw": raw_image(modality)}
    with torch.no_grad():
        exec("\n".join(code), made)
    return made


CASES = [
    *(("torchvision", arch, m) for arch, m in (("resnet18", "sar"), ("resnet50", "optical"))),
    *(("timm", arch, m) for arch, m in (("resnet18", "sar"), ("vit_s16", "optical"))),
    ("timm", "vit_s16_token", "sar"),
    *(("torchgeo", arch, m) for arch, m in (("resnet18", "optical"), ("vit_s16", "sar"))),
    *(("safetensors", arch, "sar") for arch in ("tiny", "resnet18_rda", "mit_tiny", "vit_s16")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("format", "arch", "modality"), CASES)
def test_features_are_the_same_in_a_plain_model_of_the_library(
    tmp_path, monkeypatch, format, arch, modality
):
    if format == "torchgeo":
        pytest.importorskip("torchgeo", reason="torchgeo (extra `test-torchgeo`) is not installed")
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    run = write_run(tmp_path, ("tiny", arch) if modality == "optical" else (arch, "tiny"))
    files = export(run, tmp_path / "out", format=format, modality=modality)
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    found = use(tmp_path / "out", modality, monkeypatch)
    tensors, _ = read_weights(run / "weights.safetensors")
    branch = ["sar", "optical"].index(modality)
    ours = load_backbone(
        branch_weights(tensors, branch), arch=arch, in_chans=len(BANDS[modality])
    ).eval()
    how = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    with torch.no_grad():
        expected = ours(net_input(raw_image(modality), how)[None])
    torch.testing.assert_close(found["features"], expected, rtol=1e-6, atol=1e-6)
    assert found["features"].abs().max() > 0
    if format == "torchgeo":
        name = next(file.name for file in files if file.suffix == ".pth")
        assert re.fullmatch(rf"{arch}_ssl4eo-s12_{modality}_decur-[0-9a-f]{{8}}\.pth", name)
        weights = found["DeCURWeights"].HERE
        seen = weights.transforms(raw_image(modality))
        torch.testing.assert_close(seen, net_input(raw_image(modality), how), rtol=0, atol=0)
        assert weights.meta == {"in_chans": len(how["bands"]), "bands": how["bands"]}


def test_a_hubs_files_are_complete_and_say_what_they_are(tmp_path):
    run = write_run(tmp_path, ("tiny", "tiny"))
    cells = {"sar/linear": 61.25, "sar+optical/linear": 70.0, "optical/linear": 50.0}
    for name, value in cells.items():
        cell = f"bigearthnet/{name}/labels-1"
        folder = tmp_path / RUN.replace("pretrain", "transfer", 1) / cell
        folder.mkdir(parents=True)
        tree = {"cell": cell, "metrics": {"map_micro": value}}
        (folder / "metrics.json").write_text(json.dumps(tree))
    given = ["--modality", "sar", "--format", "safetensors", "--licence", "cc-by-4.0"]
    assert main(["weights", "export", str(run), "--out", str(tmp_path / "out"), *given]) == 0
    out = tmp_path / "out"
    names = {"README.md", "config.json", "model.safetensors", "preprocessing.json"}
    assert {path.name for path in out.iterdir()} == names
    config = json.loads((out / "config.json").read_text())
    assert (config["arch"], config["in_chans"], config["modality"]) == ("tiny", 2, "sar")
    load_backbone(load_file(out / "model.safetensors"), arch="tiny", in_chans=2)
    text = (out / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["library_name"] == "decur"
    results = front["model-index"][0]["results"]
    assert [r["metrics"][0]["value"] for r in results] == [61.25, 70.0]
    for heading in ("Use", "Preprocessing", "Data", "Settings", "Metrics", "Licence", "Provenance"):
        assert f"\n## {heading}\n" in text
    assert "SSL4EO-S12, https://mediatum.ub.tum.de/1660427; licence of the data: CC-BY-4.0" in text
    assert "| bigearthnet, sar, linear, 1 % of the labels | mAP (micro) | 61.2 |" in text
    assert "| epochs | 2 |" in text
    assert "0123456789abcdef" in text


def test_exported_files_lie_about_nothing_that_was_not_measured(tmp_path):
    export(
        write_run(tmp_path, ("tiny", "tiny")),
        tmp_path / "out",
        format="safetensors",
        modality="sar",
    )
    text = (tmp_path / "out" / "README.md").read_text()
    assert "model-index" not in text
    assert "No transfer results were found" in text
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "other"


def test_streams_of_cmx_have_its_names_and_see_blue_first(tmp_path):
    for branch, modality in enumerate(RGBD):
        torch.manual_seed(branch)
        own = build_backbone("mit_tiny", 3).state_dict()
        base = settings(scenario="rgb-depth", modalities=RGBD, dataset="sun-rgbd", arch="mit_tiny")
        metadata = Weights(
            provenance=provenance(base, {}, ("torch",)), bands={modality: ("a", "b", "c")}
        )
        tensors = {f"backbones.{branch}.{name}": t for name, t in own.items()}
        save_weights(tmp_path / "one.safetensors", tensors, metadata)
        out = tmp_path / modality
        export(tmp_path / "one.safetensors", out, format="cmx")
        written = torch.load(next(out.glob("*.pth")), weights_only=True)
        prefix = "extra_" if branch else ""
        assert all(
            name.startswith((f"{prefix}patch_embed", f"{prefix}block", f"{prefix}norm"))
            for name in written
        )
        assert len(written) == len(own)
        first = written[f"{prefix}patch_embed1.proj.weight"]
        assert torch.equal(first, own["patch_embed1.proj.weight"].flip(1))
        inner = written[f"{prefix}block3.0.mlp.dwconv.dwconv.bias"]
        assert torch.equal(inner, own["block3.0.mlp.dwconv.bias"])


def test_what_does_not_fit_is_said_with_what_does(tmp_path):
    run = write_run(tmp_path, ("mit_tiny", "resnet18_rda"))
    out = tmp_path / "out"

    def refusal(**given: str) -> str:
        with pytest.raises(DecurError) as caught:
            export(run, out, **given)  # type: ignore[arg-type]
        assert not out.exists()
        return str(caught.value)

    assert "timm does not support mit_tiny; use one of safetensors, cmx" in refusal(
        format="timm", modality="sar"
    )
    assert "torchvision does not support resnet18_rda" in refusal(
        format="torchvision", modality="optical"
    )
    assert "choose one of sar, optical" in refusal(format="cmx")
    assert "--modality dem: choose one of" in refusal(format="cmx", modality="dem")
    assert "--format onnx: unknown" in refusal(format="onnx")
    save_weights(run / "weights.safetensors", {"a": torch.rand(1)}, Weights())
    assert "has no record of its backbones" in refusal(format="timm")


def test_formats_of_the_command_line_are_those_that_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["weights", "export", "--help"])
    assert "{" + ",".join(FORMATS) + "}" in capsys.readouterr().out.replace("\n", "")


def test_the_nets_input_is_what_our_shards_hold(tmp_path):
    """Equal to the last bit, from the sensors' values on."""
    raw = raw_image("sar", 64)
    how = describe("ssl4eo-s12", "sar", "sar", 64)
    stored = sar_db_to_uint8(raw, ssl4eo_s12.SAR_MEAN, ssl4eo_s12.SAR_STD)
    assert torch.equal(net_input(raw, how), torch.from_numpy(stored) / 255)
    raw = raw_image("optical", 64)
    how = describe("ssl4eo-s12", "optical", "optical", 64)
    assert torch.equal(net_input(raw, how), torch.from_numpy(reflectance_to_uint8(raw)) / 255)
    height = np.random.default_rng(0).normal(80, 20, (1, 64, 64)).astype(np.float32)
    how = describe("geonrw", "dem", "dem", 64)
    stored = elevation_to_uint8(height)
    assert torch.equal(net_input(height, how), torch.from_numpy(stored) / 255)
    assert torch.equal(net_input(height * 0, how), torch.zeros(1, 64, 64))
    colours = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    how = describe("sun-rgbd", "rgb", "rgb-indoor", 64)
    expected = scaled(torch.from_numpy(colours)[None], "rgb-indoor")[0]
    torch.testing.assert_close(net_input(colours, how), expected, rtol=0, atol=1e-6)
    assert json.loads(json.dumps(how)) == how


def test_the_nets_input_is_resized_as_whole_views_are(shards_root):
    shards = PairedShards(shards_root)
    how = describe("geonrw", "rgb", "rgb", 48)
    image = shards.batch("optical", np.array([0]))[0]
    expected = whole_view(shards, "optical", "rgb", np.array([0]), 48)[0]
    torch.testing.assert_close(net_input(image, how), expected, rtol=0, atol=1e-5)


def test_subtracting_and_dividing_alone_is_the_same_within_the_range():
    for modality in ("sar", "optical"):
        how = describe("ssl4eo-s12", modality, modality, 64) | {"percentiles": None}
        straight = linear(how)
        assert straight is not None
        raw = raw_image(modality, 64)
        mean, std = (np.array(straight[key])[:, None, None] for key in ("mean", "std"))
        plain = np.clip((raw - mean) / std, 0, 1)
        found = net_input(raw, how).numpy()
        assert (plain - found).min() >= -1e-6
        assert (plain - found).max() < 1.01 / 255  # 8 bits are truncated
    assert straight["mean"] == [0.0] * 13
    assert straight["std"] == [10_000.0] * 13
    assert linear(describe("geonrw", "dem", "dem", 64)) is None
    assert geonrw.DATASET.modalities[1].bands == ("elevation",)
