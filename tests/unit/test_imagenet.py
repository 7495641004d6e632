import hashlib
import os

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18, resnet50

from decur.errors import DecurError
from decur.models import build_backbone
from decur.pretrain.loop import train_run
from decur.shards import PairedShards
from decur.training.methods import build_model
from decur.weights import branch_weights, read_weights
from decur.weights.imagenet import load_imagenet
from tests.support.pretraining import settings, train_until


def random_like(state):
    """Tensors of the same names and shapes, every one unlike any initialisation."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.rand(t.shape, generator=generator) if t.is_floating_point() else t + 7
        for name, t in state.items()
    }


def segformer_names(state):
    """Our names -> those of SegFormer's published files, with their classifier."""
    renamed = {k.replace("mlp.dwconv.", "mlp.dwconv.dwconv."): t for k, t in state.items()}
    return renamed | {"head.weight": torch.rand(1000, 4), "head.bias": torch.rand(1000)}


def assert_filled(backbone, expected):
    found = backbone.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_torchvisions_resnet_is_taken_over_without_its_classifier(tmp_path, suffix):
    weights = random_like(resnet50().state_dict())
    path = tmp_path / f"resnet50.{suffix}"
    (torch.save if suffix == "pth" else save_file)(weights, path)
    backbone = build_backbone("resnet50", 3)
    load_imagenet(backbone, path, arch="resnet50")
    assert_filled(backbone, {k: t for k, t in weights.items() if not k.startswith("fc.")})


def test_files_older_than_the_batch_counters_are_taken_over(tmp_path):
    weights = random_like(resnet18().state_dict())
    weights = {k: t for k, t in weights.items() if not k.endswith("num_batches_tracked")}
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    backbone = build_backbone("resnet18", 3)
    load_imagenet(backbone, tmp_path / "old.pth", arch="resnet18")
    assert torch.equal(backbone.bn1.running_var, weights["bn1.running_var"])
    assert backbone.bn1.num_batches_tracked == 0


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("arch", ["mit_tiny", "mit_b2"])
def test_segformers_published_names_are_read(tmp_path, arch, wrapper):
    expected = random_like(build_backbone(arch, 3).state_dict())
    published = segformer_names(expected)
    assert "block1.0.mlp.dwconv.dwconv.weight" in published
    torch.save({wrapper: published} if wrapper else published, tmp_path / "mit.pth")
    backbone = build_backbone(arch, 3)
    load_imagenet(backbone, tmp_path / "mit.pth", arch=arch)
    assert_filled(backbone, expected)


@pytest.mark.parametrize("kind", ["SegformerModel", "SegformerForImageClassification"])
def test_segformer_as_transformers_writes_it_computes_the_same(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(depths=[2, 2, 2, 2], hidden_sizes=[32, 64, 160, 256])
    theirs = getattr(transformers, kind)(config).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    ours = build_backbone("mit_b0", 3).eval()
    load_imagenet(ours, tmp_path / "model.safetensors", arch="mit_b0")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(x, output_hidden_states=True).hidden_states
        for a, b in zip(ours.stages(x), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_timms_vision_transformer_computes_the_same(tmp_path):
    theirs = timm.create_model("vit_small_patch16_224").eval()
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    ours = build_backbone("vit_s16", 3).eval()
    load_imagenet(ours, tmp_path / "vit.pth", arch="vit_s16")
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs.forward_features(x)[:, 1:].mean(dim=1)
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arch", "first"), [("resnet18", "conv1.weight"), ("mit_tiny", "patch_embed1.proj.weight")]
)
@pytest.mark.parametrize("chans", [1, 2, 4, 13])
def test_only_the_first_convolution_is_adapted_to_the_bands(tmp_path, arch, first, chans):
    """One band: the sum over red, green, blue; more: these in turn, scaled by 3 / bands."""
    weights = random_like(build_backbone(arch, 3).state_dict())
    torch.save(segformer_names(weights), tmp_path / "rgb.pth")
    backbone = build_backbone(arch, chans)
    load_imagenet(backbone, tmp_path / "rgb.pth", arch=arch)
    rgb = weights[first]
    bands = [rgb[:, i % 3] * 3 / chans for i in range(chans)] if chans > 1 else [rgb.sum(dim=1)]
    found = backbone.state_dict()
    torch.testing.assert_close(found.pop(first), torch.stack(bands, dim=1))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.items())


def test_the_adapted_first_convolution_sees_grey_as_it_saw_it_in_three_equal_bands(tmp_path):
    weights = random_like(build_backbone("resnet18", 3).state_dict())
    torch.save(weights, tmp_path / "rgb.pth")
    grey = torch.rand(1, 1, 32, 32)
    maps = []
    for chans in (1, 3, 6):
        backbone = build_backbone("resnet18", chans)
        load_imagenet(backbone, tmp_path / "rgb.pth", arch="resnet18")
        maps.append(backbone.conv1(grey.expand(-1, chans, -1, -1)))
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(maps[2], maps[1], rtol=1e-4, atol=1e-4)


def refusal(path, arch="resnet18"):
    backbone = build_backbone(arch, 2)
    before = {k: t.clone() for k, t in backbone.state_dict().items()}
    with pytest.raises(DecurError) as caught:
        load_imagenet(backbone, path, arch=arch)
    assert_filled(backbone, before)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text


@pytest.mark.slow
def test_files_of_another_architecture_are_named_with_the_first_mismatch(tmp_path):
    path = tmp_path / "file.pth"
    torch.save(resnet50().state_dict(), path)
    text = refusal(path)
    assert (
        "'layer1.0.conv1.weight' is (64, 64, 1, 1), but resnet18 with 2 channels needs (64, "
        in text
    )
    assert "'patch_embed1.proj.weight' of mit_tiny is missing" in refusal(path, "mit_tiny")
    torch.save(resnet18().state_dict() | {"layer5.weight": torch.rand(2)}, path)
    assert "'layer5.weight' is not part of resnet18" in refusal(path)
    torch.save(resnet18().state_dict() | {"conv1.weight": torch.rand(64, 5, 7, 7)}, path)
    assert "'conv1.weight' is (64, 5, 7, 7), but resnet18 with 2 channels needs" in refusal(path)


class Code:
    """What a malicious file holds: unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_not_run(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save(resnet18().state_dict() | {"conv1.weight": Code(tmp_path / "made")}, path)
    assert "code in it is never run" in refusal(path)
    assert not (tmp_path / "made").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["file.pth", "file.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"hello world" * 10])
def test_damaged_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "cannot be read as tensors only" in refusal(tmp_path / name)


def test_a_cut_file_a_missing_file_and_a_file_of_other_things_are_named(tmp_path):
    path = tmp_path / "file.pth"
    assert "no such file of weights" in refusal(path)
    torch.save(resnet18().state_dict(), path)
    path.write_bytes(path.read_bytes()[:10000])
    assert "cannot be read as tensors only" in refusal(path)
    for other in (torch.rand(3), {"epoch": 3, "lr": 0.1}):
        torch.save(other, path)
        assert "not a state dict of tensors" in refusal(path)


def resnet_file(folder):
    torch.save(random_like(resnet18().state_dict()), folder / "resnet18.pth")
    return folder / "resnet18.pth"


@pytest.mark.slow
def test_the_method_imagenet_writes_the_files_backbones_and_seeds_the_rest(shards_root, tmp_path):
    path = resnet_file(tmp_path)
    chosen = settings(method="imagenet", arch="resnet18", imagenet=str(path))
    weights = train_run(chosen, shards_root, tmp_path / "out")
    assert not (tmp_path / "out" / "checkpoints").exists()
    written, metadata = read_weights(weights)
    seeded = build_model(chosen, PairedShards(shards_root)).state_dict()
    assert written.keys() == seeded.keys()
    assert all(
        torch.equal(seeded[name], written[name]) != name.startswith("backbones.") for name in seeded
    )
    for branch, chans in enumerate((2, 3)):
        expected = build_backbone("resnet18", chans)
        load_imagenet(expected, path, arch="resnet18")
        assert_filled(expected, branch_weights(written, branch))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert metadata.provenance.inputs["resnet18.pth"] == f"sha256:{digest}"


def test_pretraining_starts_from_the_file_and_continues_only_with_the_same(
    shards_root, tmp_path, capsys
):
    path = tmp_path / "tiny.pth"
    given = random_like(build_backbone("tiny", 3).state_dict())
    torch.save(given, path)
    name = "stage2.0.weight"
    short = {"lr": 1e-9, "lr_1d": 1e-9, "optimizer": "adamw", "epochs": 1}
    chosen = settings(imagenet=str(path), **short)
    train_until(2, chosen, shards_root, tmp_path / "stopped")
    for added in (0, 1):
        torch.save({key: tensor + added for key, tensor in given.items()}, path)
        written = read_weights(train_run(chosen, shards_root, tmp_path / "out"))[0]
        for branch in (0, 1):
            found, expected = written[f"backbones.{branch}.{name}"], given[name] + added
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    train_run(chosen, shards_root, tmp_path / "stopped")
    assert "not continued" in capsys.readouterr().out


def test_the_method_imagenet_without_a_file_writes_nothing(shards_root, tmp_path):
    with pytest.raises(DecurError, match=r"sar-optical\.pretrain\.imagenet: .*needs ImageNet"):
        train_run(settings(method="imagenet"), shards_root, tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()
