"""The authors' released files, made small, read into files of ours."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from decur.cli import main
from decur.config import (
    Explain,
    PretrainSettings,
    Transfer,
    TransferSettings,
    explain_settings_type,
)
from decur.datasets.ssl4eo_s12 import DATASET
from decur.embed import load_encoder
from decur.errors import DecurError
from decur.imagery.bands import elevation_to_uint8
from decur.shards import Sample, ShardWriter
from decur.weights import import_weights, load_backbone, read_weights
from tests.support.released_files import (
    attention,
    joint,
    rda_joint,
    save_checkpoint,
    saved,
    segformer,
    their_net,
)

JOINT = "rn50_ssl4eo-s12_joint_decur_ep100.pth"  # whose checksum nobody knows


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("whole", [True, False], ids=["with the optimiser", "weights alone"])
def test_a_joint_file_is_read_with_or_without_its_wrappers(tmp_path, prefix, whole):
    nets = [their_net("resnet18", chans) for chans in (2, 13)]
    theirs = joint([net.state_dict() for net in nets], 512, prefix=prefix)
    write = save_checkpoint if whole else saved
    found = import_weights(write(tmp_path / "joint.pth", theirs), tmp_path / "out")
    assert found.path == tmp_path / "out" / "weights.safetensors"
    assert "checksum unknown" in found.notes[0]
    tensors, metadata = read_weights(found.path)
    settings = metadata.provenance.settings
    assert settings["arch"] == "resnet18"
    assert settings["modalities"] == {"sar": "sar", "optical": "optical"}
    assert (settings["dim"], settings["dim_common"], settings["projector"]) == (32, None, "shared")
    assert any(note.startswith("dim_common: not recorded") for note in found.notes)
    assert list(metadata.bands) == ["sar", "optical"]
    assert torch.equal(tensors["projectors.0.6.weight"], theirs[f"{prefix}projector1.6.weight"])
    assert not any(name.startswith(("projectors.1", "bn")) for name in tensors)
    for branch, (net, chans) in enumerate(zip(nets, (2, 13), strict=True)):
        ours = load_backbone(found.path, arch="resnet18", in_chans=chans, branch=branch).eval()
        x = torch.rand(1, chans, 64, 64)
        torch.testing.assert_close(ours(x), net(x), rtol=0, atol=1e-6)
    with pytest.raises(DecurError, match="has two backbones; set `branch`"):
        load_backbone(found.path, arch="resnet18", in_chans=2)


def test_one_backbone_alone_is_read_under_its_branch(tmp_path):
    for name, arch, chans in (("sar", "resnet18", 2), ("optical", "vit_s16_token", 13)):
        net = their_net(arch.removesuffix("_token"), chans)
        path = saved(tmp_path / f"{name}.pth", net.state_dict())
        found = import_weights(path, tmp_path / f"{name}.safetensors")
        assert found.what == f"{arch}, sar-optical, {name}"
        ours = load_backbone(found.path, arch=arch, in_chans=chans).eval()
        assert list(read_weights(found.path)[1].bands) == [name]
        x = torch.rand(1, chans, 224, 224)
        torch.testing.assert_close(ours(x), net(x), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("pool", [None, "token", "mean"])
def test_a_vision_transformers_features_are_the_class_token_or_on_request_the_mean(tmp_path, pool):
    net = their_net("vit_s16", 2)
    path = saved(tmp_path / "vit.pth", net.state_dict())
    given = [] if pool is None else ["--pool", pool]
    out = tmp_path / "out"
    assert main(["weights", "import", str(path), "--out", str(out), *given]) == 0
    encoder = load_encoder(out / "weights.safetensors", scale="stored")
    image = np.random.default_rng(0).integers(0, 256, (2, 224, 224), dtype=np.uint8)
    with torch.no_grad():
        x = torch.from_numpy(image)[None] / 255
        tokens = net.forward_features(x)
        expected = tokens[:, 1:].mean(dim=1) if pool == "mean" else net(x)
    np.testing.assert_allclose(encoder([image]), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_choice_of_pooling_is_for_vision_transformers(tmp_path):
    path = saved(tmp_path / "a.pth", their_net("resnet18", 2).state_dict())
    with pytest.raises(DecurError, match="--pool mean"):
        import_weights(path, tmp_path / "out", pool="mean")
    with pytest.raises(DecurError, match=r"--pool max.*token.*mean"):
        import_weights(path, tmp_path / "out", pool="max")  # type: ignore[arg-type]


def test_aerial_backbones_see_red_first_and_elevation_once(tmp_path):
    """The released ones see blue first, and the elevation in three equal bands."""
    nets = [their_net("resnet18", 3) for _ in range(2)]
    path = save_checkpoint(tmp_path / "geonrw.pth", joint([n.state_dict() for n in nets], 512))
    found = import_weights(path, tmp_path)
    assert found.what == "resnet18, rgb-dem, rgb and dem"
    assert any(note.startswith("rgb: first convolution reversed") for note in found.notes)
    assert any(note.startswith("dem: kernels of the first convolution") for note in found.notes)
    assert read_weights(found.path)[1].released.notes == found.notes
    rgb = load_backbone(found.path, arch="resnet18", in_chans=3, branch=0).eval()
    dem = load_backbone(found.path, arch="resnet18", in_chans=1, branch=1).eval()
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(rgb(x), nets[0](x.flip(1)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(rgb(x), nets[0](x), rtol=1e-2)
    h = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(dem(h), nets[1](h.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_mix_transformers_come_with_their_heads(tmp_path):
    theirs = segformer("mit_tiny", 3)
    head = {"head.weight": torch.rand(64, 128), "head.bias": torch.rand(64)}
    path = save_checkpoint(tmp_path / "mit.pth", joint([theirs | head] * 2, 64))
    found = import_weights(path, tmp_path)
    tensors, metadata = read_weights(found.path)
    settings = metadata.provenance.settings
    assert (settings["arch"], settings["scenario"]) == ("mit_tiny", "rgb-depth")
    assert (settings["head_dim"], settings["dim_common"]) == (64, None)
    for branch in (0, 1):
        assert torch.equal(tensors[f"heads.{branch}.bias"], head["head.bias"])
        first = tensors[f"backbones.{branch}.patch_embed1.proj.weight"]
        assert torch.equal(first, theirs["patch_embed1.proj.weight"].flip(1))
        inner = tensors[f"backbones.{branch}.block2.0.mlp.dwconv.weight"]
        assert torch.equal(inner, theirs["block2.0.mlp.dwconv.dwconv.weight"])
    mean = metadata.preprocessing["rgb"]["mean"]
    assert mean == [0.406, 0.456, 0.485]  # of the released code, which gave red's to blue


def test_both_branches_of_a_joint_file_get_the_attention_that_was_trained(tmp_path):
    found = import_weights(save_checkpoint(tmp_path / "rda.pth", rda_joint()), tmp_path)
    assert any("both branches have da1" in note for note in found.notes)
    tensors, _ = read_weights(found.path)
    trained = attention("resnet18", 1)
    for branch in (0, 1):
        for layer in ("l3", "l4"):
            ours = tensors[f"backbones.{branch}.da_{layer}.proj_q.weight"]
            assert torch.equal(ours, trained[f"da1_{layer}.proj_q.weight"])
    load_backbone(found.path, arch="resnet18_rda", in_chans=13, branch=1)


@pytest.mark.slow
def test_the_later_versions_optical_images_were_scaled_by_mean_and_deviation(tmp_path):
    later = import_weights(save_checkpoint(tmp_path / "rda.pth", rda_joint()), tmp_path / "later")
    nets = [their_net("resnet18", chans).state_dict() for chans in (2, 13)]
    first = import_weights(
        save_checkpoint(tmp_path / "a.pth", joint(nets, 512)), tmp_path / "first"
    )
    scaling = [read_weights(f.path)[1].preprocessing["optical"] for f in (first, later)]
    assert (scaling[0]["scaling"], scaling[0]["unit"]) == ("divide", 10_000)
    assert scaling[1]["black"][0] == pytest.approx(1605.575 - 2 * 786.787)
    assert scaling[1]["white"][12] == pytest.approx(1524.065 + 2 * 1136.538)
    assert scaling[1]["percentiles"] is None


@pytest.mark.parametrize(("number", "chans", "name"), [(1, 2, "sar"), (2, 3, "dem")])
def test_attention_of_one_branch_is_read_under_its_own_number(tmp_path, number, chans, name):
    inside = {f"backbone.{k}": t for k, t in their_net("resnet18", chans).state_dict().items()}
    path = saved(tmp_path / "rda.pth", inside | attention("resnet18", number))
    found = import_weights(path, tmp_path)
    assert found.what.endswith(f", {name}")
    assert any("never trained" in note for note in found.notes) == (number == 2)
    tensors, _ = read_weights(found.path)
    given = attention("resnet18", number)[f"da{number}_l4.rpe_table"]
    assert torch.equal(tensors[f"backbones.{number - 1}.da_l4.rpe_table"], given)


def test_an_imported_backbone_is_exported_with_what_it_was_trained_on(
    tmp_path, monkeypatch, capsys
):
    """From metres to features, as three equal bands into the released network."""
    nets = [their_net("resnet18", 3) for _ in range(2)]
    path = save_checkpoint(tmp_path / "geonrw.pth", joint([n.state_dict() for n in nets], 512))
    found = import_weights(path, tmp_path / "in")
    out = tmp_path / "out"
    given = ["--modality", "dem", "--format", "torchvision", "--out", str(out)]
    assert main(["weights", "export", str(tmp_path / "in"), *given]) == 0
    card = (out / "README.md").read_text()
    assert "license: other" in card  # its checksum is not of the authors' file
    assert "imported from `geonrw.pth`" in card
    assert "checksum unknown: source not verified" in card
    assert "dem: kernels of the first convolution summed" in card
    raw = np.random.default_rng(0).normal(80, 20, (1, 224, 224)).astype(np.float32)
    made = {"raw": raw}
    monkeypatch.chdir(out)
    with torch.no_grad():
        exec(card.split("```python\n")[1].split("```")[0], made)
        seen = torch.from_numpy(elevation_to_uint8(raw)) / 255
        expected = nets[1](seen.expand(1, 3, -1, -1))
    torch.testing.assert_close(made["features"], expected, rtol=1e-4, atol=1e-4)
    assert main(["provenance", str(found.path)]) == 0
    assert "geonrw.pth" in capsys.readouterr().out


MODALITIES = DATASET.modalities


def write_shards(root: Path) -> Path:
    rng = np.random.default_rng(0)
    with ShardWriter(root, MODALITIES) as writer:
        for i in range(36):
            arrays = {
                "sar": rng.integers(0, 255, (1, 2, 32, 32), dtype=np.uint8),
                "optical": rng.integers(0, 255, (1, 13, 32, 32), dtype=np.uint8),
            }
            labels = (rng.random(19) < 0.4).astype(np.uint8)
            split = "train" if i < 24 else "val"
            writer.add(Sample(f"{i:03d}", split, arrays, labels=labels, source=str(i)))
    return root


@pytest.mark.slow
def test_an_imported_joint_file_is_transferred_and_explained(tmp_path, capsys):
    nets = [their_net("resnet18", chans).state_dict() for chans in (2, 13)]
    file = save_checkpoint(tmp_path / "joint.pth", joint(nets, 512))
    weights = tmp_path / "imported.safetensors"
    assert main(["weights", "import", str(file), "--out", str(weights)]) == 0
    assert f"{weights}: resnet18, sar-optical, sar and optical" in capsys.readouterr().out
    shards = write_shards(tmp_path / "shards" / "bigearthnet").parent
    pretrained = PretrainSettings(
        scenario="sar-optical",
        method="decur",
        seed=0,
        modalities={"sar": "sar", "optical": "optical"},
        dataset="ssl4eo-s12",
        arch="resnet18",
        crop=32,
        dim=32,
        dim_common=28,
        projector="shared",
    )
    head = {"optimizer": "adamw", "lr": 0.01, "epochs": 1}
    recipe = Transfer.model_validate(
        {"task": "classification", "crop": 32, "batch_size": 12, "linear": head, "fine_tune": head}
    )
    settings = TransferSettings(run="r", pretrain=pretrained, recipes={"bigearthnet": recipe})
    cell = "bigearthnet/sar+optical/linear/labels-100"
    common = ["--weights", str(weights), "--settings"]
    out = tmp_path / "transfer"
    given = [*common, settings.model_dump_json(), "--shards", str(shards), "--out", str(out)]
    assert main(["transfer", cell, *given]) == 0
    record = json.loads((out / cell / "metrics.json").read_text())
    assert 0 < record["metrics"]["map_micro"] <= 100
    assert list(record["provenance"]["pretrained"]["inputs"]) == ["joint.pth"]
    recipe = Explain().alignment
    explained = explain_settings_type("alignment")(run="r", pretrain=pretrained, recipe=recipe)
    given = ["--shards", str(shards / "bigearthnet"), "--out", str(tmp_path / "alignment.csv")]
    assert main(["explain", "alignment", *common, explained.model_dump_json(), *given]) == 0
    lines = (tmp_path / "alignment.csv").read_text().splitlines()
    assert len(lines) == 1 + 32
    other = explained.model_copy(update={"pretrain": pretrained.model_copy(update={"dim": 64})})
    assert main(["explain", "alignment", *common, other.model_dump_json(), *given]) == 1
    assert "was pretrained with dim 32" in capsys.readouterr().err
    # The number of common dimensions is not known of the file, and the settings' one is taken.
    few = pretrained.model_copy(update={"dim_common": 9})
    text = explained.model_copy(update={"pretrain": few}).model_dump_json()
    assert main(["explain", "alignment", *common, text, *given]) == 0
    lines = (tmp_path / "alignment.csv").read_text().splitlines()
    assert sum("common" in line for line in lines) == 9
    # An architecture that differs in its features alone is not taken for the recorded one.
    wrong = settings.model_copy(
        update={"pretrain": pretrained.model_copy(update={"arch": "resnet50"})}
    )
    text = wrong.model_dump_json()
    rest = ["--shards", str(shards), "--out", str(out)]
    assert main(["transfer", cell, *common, text, *rest]) == 1
    assert "its sar backbone is resnet18, the settings have resnet50" in capsys.readouterr().err
