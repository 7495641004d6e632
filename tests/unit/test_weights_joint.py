"""The export `released`: what the authors' scripts load, and the import reads back unchanged."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from decur import datasets
from decur.artifacts.provenance import provenance
from decur.artifacts.records import Weights
from decur.cli import main
from decur.config.released import RELEASED_PAIRS
from decur.errors import DecurError
from decur.models.two_branch import TwoBranch
from decur.weights import export, import_weights, load_backbone, read_weights
from decur.weights.files import save_weights
from decur.weights.first_layer import in_our_bands, in_their_bands
from tests.support.pretraining import settings
from tests.support.released_files import disturbed

DIM = 32
Tensors = dict[str, Tensor]


def write_run(folder: Path, scenario: str, arch: str, **changes) -> Path:  # type: ignore[no-untyped-def]
    """A weights file as pretraining leaves it, of a released pair of modalities."""
    known = RELEASED_PAIRS[scenario]
    chosen = settings(
        scenario=scenario, modalities=known.presets, dataset=known.dataset, arch=arch, **changes
    )
    facts = {m.name: list(m.bands) for m in datasets.load(known.dataset).DATASET.modalities}
    bands = {name: facts[name] for name in known.presets}
    torch.manual_seed(0)
    model = TwoBranch(
        [chosen.arch_of(name) for name in bands],
        [len(names) for names in bands.values()],
        dim=DIM,
        layers=chosen.projector_layers,
        shared=chosen.projector == "shared",
        head_dim=chosen.head_dim,
    )
    metadata = Weights(provenance=provenance(chosen, {}, ("torch",)), bands=bands)
    save_weights(folder / "weights.safetensors", disturbed(model.state_dict()), metadata)
    return folder / "weights.safetensors"


def released(weights: Path, out: Path) -> Path:
    files = export(weights, out, format="released")
    assert sorted(files) == sorted(out.iterdir())
    return next(file for file in files if file.suffix == ".pth")


CASES = [
    ("sar-optical", "resnet18", {}),
    ("sar-optical", "resnet18_rda", {"projector": "shared"}),
    ("sar-optical", "vit_s16_token", {}),
    ("rgb-dem", "resnet18", {"projector": "shared"}),
    ("rgb-dem", "resnet18", {}),
    ("rgb-dem", "resnet50", {"projector_layers": 0}),
    ("rgb-depth", "mit_tiny", {"projector": "shared", "head_dim": 64}),
    ("rgb-depth", "mit_b0", {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "arch", "changes"), CASES)
def test_the_import_gives_back_every_tensor_to_the_last_bit(tmp_path, scenario, arch, changes):
    weights = write_run(tmp_path, scenario, arch, **changes)
    found = import_weights(released(weights, tmp_path / "out"), tmp_path / "again")
    before, (after, metadata) = read_weights(weights)[0], read_weights(found.path)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    recorded = metadata.provenance.settings
    assert (recorded["arch"], recorded["scenario"]) == (arch, scenario)
    if changes.get("projector_layers") != 0:
        assert recorded["projector"] == changes.get("projector", "separate")
        assert recorded["head_dim"] == changes.get("head_dim", 0)


@given(st.integers(0, 10_000), st.sampled_from([torch.float32, torch.float64]))
def test_a_kernel_of_one_band_is_the_sum_of_its_three_to_the_last_bit(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(16, 1, 3, 3, dtype=torch.float64, generator=generator)
    kernel = (kernel * 10.0 ** (seed % 13 - 6)).to(dtype)
    scenario = RELEASED_PAIRS["rgb-dem"]
    theirs = in_their_bands({"conv1.weight": kernel}, "dem", scenario)
    assert theirs["conv1.weight"].shape == (16, 3, 3, 3)
    ours, note = in_our_bands(theirs, "dem", scenario)
    assert torch.equal(ours["conv1.weight"], kernel)
    assert note is not None


class Pretrained(nn.Module):
    """The network that the released pretraining saves, built from its description."""

    def __init__(self, chans: tuple[int, int]) -> None:
        super().__init__()
        self.backbone_1, self.backbone_2 = (plain_resnet(n) for n in chans)
        layers: list[nn.Module] = []
        for width in (512, DIM):
            layers += [nn.Linear(width, DIM, bias=False), nn.BatchNorm1d(DIM), nn.ReLU()]
        layers.append(nn.Linear(DIM, DIM, bias=False))
        self.projector1, self.projector2 = nn.Sequential(*layers), nn.Sequential(*layers)
        self.bn = nn.BatchNorm1d(DIM, affine=False)


class LateFusion(nn.Module):
    """The network of the released transfer to BigEarthNet."""

    def __init__(self) -> None:
        super().__init__()
        self.net1, self.net2 = (plain_resnet(n) for n in (2, 13))
        self.ffc = nn.Linear(1024, 19)


class Segmenter(nn.Module):
    """The backbones of the released transfer to GeoNRW, which reads their inner layers."""

    def __init__(self) -> None:
        super().__init__()
        nodes = {f"layer{k}": str(k) for k in (2, 3, 4)}
        self.backbone_1, self.backbone_2 = (
            create_feature_extractor(resnet18(), return_nodes=nodes) for _ in range(2)
        )
        self.cls0 = nn.Conv2d(128, 11, 1)


def plain_resnet(chans: int) -> nn.Module:
    net = resnet18()
    net.conv1 = nn.Conv2d(chans, 64, 7, stride=2, padding=3, bias=False)
    net.fc = nn.Identity()
    return net


def as_their_script_reads(path: Path, *renamed: tuple[str, str]) -> Tensors:
    """`checkpoint["model"]` with the replacements that a script makes in the names."""
    tensors = torch.load(path, weights_only=True)["model"]
    for theirs, other in renamed:
        tensors = {name.replace(theirs, other): t for name, t in tensors.items()}
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "chans"), [("sar-optical", (2, 13)), ("rgb-dem", (3, 3)), ("rgb-depth", (3, 3))]
)
def test_the_released_pretraining_model_loads_it_strictly(tmp_path, scenario, chans):
    file = released(write_run(tmp_path, scenario, "resnet18", projector="shared"), tmp_path / "out")
    Pretrained(chans).load_state_dict(as_their_script_reads(file, ("module.", "")), strict=True)


@pytest.mark.parametrize("later", [False, True])
def test_their_transfer_to_bigearthnet_misses_its_classifier_alone(tmp_path, later):
    weights = write_run(tmp_path, "sar-optical", "resnet18")
    file = released(weights, tmp_path / "out")
    renamed = [("module.backbone_1", "net1"), ("module.backbone_2", "net2")]
    given = as_their_script_reads(file, *renamed, *([("module.", "")] if later else []))
    net = LateFusion().eval()
    missing = net.load_state_dict(given, strict=False).missing_keys
    assert set(missing) == {"ffc.weight", "ffc.bias"}
    for branch, (theirs, chans) in enumerate(((net.net1, 2), (net.net2, 13))):
        ours = load_backbone(weights, arch="resnet18", in_chans=chans, branch=branch).eval()
        x = torch.rand(1, chans, 64, 64)
        torch.testing.assert_close(theirs(x), ours(x))


def test_their_single_transfer_misses_its_classifier_alone(tmp_path):
    """With deformable attention too, each branch's under its own number."""
    for arch in ("resnet18", "resnet18_rda"):
        weights = write_run(tmp_path / arch, "sar-optical", arch)
        file = released(weights, tmp_path / arch / "out")
        for number, chans in ((1, 2), (2, 13)):
            given = as_their_script_reads(
                file, (f"module.backbone_{number}", "backbone"), ("module.", "")
            )
            net = nn.Module()
            net.backbone = plain_resnet(chans)
            net.backbone.fc = nn.Linear(512, 19)
            missing = net.load_state_dict(given, strict=False).missing_keys
            assert set(missing) == {"backbone.fc.weight", "backbone.fc.bias"}
            own = read_weights(weights)[0]
            for name in own:
                if name.startswith(f"backbones.{number - 1}.da_"):
                    read = name.removeprefix(f"backbones.{number - 1}.")
                    read = read.replace("da_", f"da{number}_")
                    assert torch.equal(given[read], own[name])


def test_their_transfer_to_geonrw_sees_blue_first_and_elevation_in_three_channels(tmp_path):
    weights = write_run(tmp_path, "rgb-dem", "resnet18")
    file = released(weights, tmp_path / "out")
    renamed = [(f"module.backbone_{i}", f"backbone_{i}") for i in (1, 2)]
    net = Segmenter().eval()
    missing = net.load_state_dict(as_their_script_reads(file, *renamed), strict=False).missing_keys
    assert set(missing) == {"cls0.weight", "cls0.bias"}
    rgb, height = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    inputs: list[tuple[int, int, Callable[[Tensor], dict[str, Tensor]], Tensor, Tensor]] = [
        (0, 3, net.backbone_1, rgb.flip(1), rgb),
        (1, 1, net.backbone_2, height.expand(-1, 3, -1, -1), height),
    ]
    for branch, chans, theirs, read, ours_reads in inputs:
        ours = load_backbone(weights, arch="resnet18", in_chans=chans, branch=branch).eval()
        with torch.no_grad():
            pairs = zip(theirs(read).values(), ours.stages(ours_reads)[1:], strict=True)
            for a, b in pairs:
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_their_conversion_to_cmx_finds_both_streams(tmp_path):
    weights = write_run(tmp_path, "rgb-depth", "mit_tiny", head_dim=64)
    given = as_their_script_reads(released(weights, tmp_path / "out"))
    own = read_weights(weights)[0]
    for number in (1, 2):
        prefix = f"module.backbone_{number}."
        stream = {
            name.removeprefix(prefix): t
            for name, t in given.items()
            if name.startswith(prefix) and not name.startswith(f"{prefix}head")
        }
        first = own[f"backbones.{number - 1}.patch_embed1.proj.weight"]
        assert torch.equal(stream["patch_embed1.proj.weight"], first.flip(1))
        assert "block1.0.mlp.dwconv.dwconv.weight" in stream
        assert len(stream) == sum(name.startswith(f"backbones.{number - 1}.") for name in own)


def test_a_shared_projector_is_stored_once(tmp_path):
    sizes = []
    for projector in ("shared", "separate"):
        changes = {"projector": projector, "projector_layers": 8}
        weights = write_run(tmp_path / projector, "sar-optical", "resnet18", **changes)
        sizes.append(released(weights, tmp_path / projector / "out").stat().st_size)
    one = 4 * (512 * DIM + 7 * DIM * DIM)
    assert sizes[1] - sizes[0] > 0.9 * one


def test_the_card_names_both_modalities_and_the_order_of_bands(tmp_path, capsys):
    weights = write_run(tmp_path, "rgb-dem", "resnet18")
    out = str(tmp_path / "out")
    given = ["weights", "export", str(weights), "--format", "released", "--out", out]
    assert main([*given, "--licence", "mit"]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert "license: mit" in text
    assert "### rgb: red, green, blue" in text and "### dem: elevation" in text
    assert main([*given, "--modality", "rgb"]) == 1
    assert "--modality rgb: released contains both modalities" in capsys.readouterr().err


def test_what_their_scripts_do_not_read_is_refused_in_one_line(tmp_path):
    def refusal(weights: Path) -> str:
        with pytest.raises(DecurError) as caught:
            export(weights, tmp_path / "out", format="released")
        assert not (tmp_path / "out").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "backbones are tiny and tiny; the released form" in refusal(
        write_run(tmp_path / "a", "rgb-dem", "tiny")
    )
    assert "are resnet18 and resnet50" in refusal(
        write_run(tmp_path / "b", "rgb-dem", "resnet18", archs={"dem": "resnet50"})
    )
    weights = write_run(tmp_path / "c", "rgb-dem", "resnet18")
    tensors, metadata = read_weights(weights)
    reversed_bands = {**metadata.bands, "rgb": ("blue", "green", "red")}
    save_weights(weights, tensors, metadata.model_copy(update={"bands": reversed_bands}))
    assert "rgb has the bands blue, green, red; the authors' scripts read red, gre" in refusal(
        weights
    )
    one = {k: t for k, t in tensors.items() if not k.startswith("backbones.1.")}
    save_weights(weights, one, metadata)
    assert "has one backbone, but the released form needs both" in refusal(weights)
    metadata.provenance.settings["modalities"] = {"nir": "image", "rgb": "rgb"}
    others = {"nir": ("a",), "rgb": ("b",)}
    save_weights(weights, tensors, metadata.model_copy(update={"bands": others}))
    assert "has nir and rgb; the authors' scripts read sar and optical; rgb" in refusal(weights)
