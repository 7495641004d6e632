"""Released files are recognised, and other files are refused in one line."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from decur.cli import main
from decur.config import released
from decur.config.released import BY_NAME, RELEASED, RELEASED_PAIRS
from decur.errors import DecurError
from decur.models import build_backbone
from decur.weights import import_weights, read_weights
from decur.weights.importing import architecture, fits
from decur.weights.naming import released_parts, to_published
from tests.support.released_files import disturbed, joint, rda_joint, saved, their_net


def refusal(path: Path, like: str | None = None) -> str:
    with pytest.raises(DecurError) as caught:
        import_weights(path, path.parent / "out", like)
    assert not (path.parent / "out").exists()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_shapes_cannot_tell_the_user_says(tmp_path):
    path = saved(tmp_path / "rgb.pth", their_net("resnet18", 3).state_dict())
    text = refusal(path)
    assert "resnet18 with 3 channels, like several released files; choose" in text
    assert "rn50_geonrw_dem_decur_ep100.pth" in text
    assert "no released file; use one of" in refusal(path, "rn50")
    assert "unlike rn50_ssl4eo-s12_sar" in refusal(path, "rn50_ssl4eo-s12_sar_decur_ep100.pth")
    found = import_weights(path, tmp_path, "rn50_geonrw_dem_decur_ep100.pth")
    assert found.what == "resnet18, rgb-dem, dem"


def test_a_released_files_name_with_another_checksum_is_refused(tmp_path):
    path = saved(
        tmp_path / "rn50_ssl4eo-s12_sar_decur_ep100.pth", their_net("resnet18", 2).state_dict()
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    text = refusal(path)
    assert f"its SHA-256 is {digest}, that of the released file is f0e69ba2" in text
    import_weights(path.rename(tmp_path / "mine.pth"), tmp_path)


def test_a_file_is_known_by_its_checksum_under_any_name(tmp_path, monkeypatch):
    """Even where shapes could not tell: two released files have the same ones."""
    path = saved(tmp_path / "download", their_net("resnet18", 3).state_dict())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = replace(BY_NAME["rn50_geonrw_rgb_decur_ep100.pth"], sha256=digest)
    monkeypatch.setattr(released, "RELEASED", (entry,))
    found = import_weights(path, tmp_path)
    assert found.notes[0] == f"checksum as published for {entry.name}"
    metadata = read_weights(found.path)[1]
    assert metadata.provenance.inputs == {"download": f"sha256:{digest}"}
    assert metadata.released.licence == "cc-by-4.0"


class Code:
    """What a malicious file holds: unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    weights = {"conv1.weight": torch.rand(64, 2, 7, 7), "evil": Code(tmp_path / "made")}
    for tree in (weights, {"epoch": Code(tmp_path / "made"), "model": {}, "optimizer": {}}):
        path = saved(tmp_path / "evil.pth", tree)
        assert "code in it is never run" in refusal(path)
        assert not (tmp_path / "made").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "made").exists()


def test_damaged_files_and_files_of_other_things_are_named(tmp_path):
    path = saved(tmp_path / "file.pth", their_net("resnet18", 2).state_dict())
    path.write_bytes(path.read_bytes()[:100_000])
    assert "cannot be read as tensors only" in refusal(path)
    path.unlink()
    assert "no such file of weights" in refusal(path)
    saved(path, {"a": torch.rand(3)})
    assert "fit none of the released backbones" in refusal(path)
    saved(path, disturbed(build_backbone("resnet18", 5).state_dict()))
    assert "resnet18 with 5 channels; no such file was released" in refusal(path)


def test_command_line_says_in_one_line_what_is_wrong(tmp_path, capsys):
    path = tmp_path / "none.pth"
    assert main(["weights", "import", str(path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"decur: error: {path}: no such file")
    assert error.count("\n") == 1


def test_sizes_of_released_files_are_those_of_our_networks():
    """Within the few hundred kilobytes that names and layout take."""
    sizes = {}
    for arch in {entry.arch for entry in RELEASED}:
        with torch.device("meta"):
            sizes[arch] = build_backbone(arch, 3).state_dict()
    checked = 0
    for entry in RELEASED:
        if entry.size is None or entry.modality is None:
            continue
        content = sum(t.numel() * t.element_size() for t in sizes[entry.arch].values())
        assert 0 < entry.size - content < 400_000, entry.name
        checked += 1
    assert checked == 6
    for dim, count in ((8192, 793_034_653),):
        width = 2048 * dim + 2 * dim * dim + 2 * 2 * dim * 2
        content = 2 * sum(t.numel() for t in sizes["resnet50"].values()) + width
        assert 0 < count - 4 * content < 400_000


@pytest.mark.parametrize("entry", RELEASED, ids=lambda entry: entry.name.removesuffix(".pth"))
def test_every_released_file_is_recognised_by_its_names_and_shapes(entry):
    """With the real shapes, but without values."""
    scenario = RELEASED_PAIRS[entry.scenario]
    tensors = {}
    for number, (name, chans) in enumerate(zip(scenario.presets, scenario.chans, strict=True), 1):
        if entry.modality not in (None, name):
            continue
        with torch.device("meta"):
            own = to_published(entry.arch, build_backbone(entry.arch, chans).state_dict())
        added = "module." if entry.modality is None else ""
        below = f"module.backbone_{number}." if entry.modality is None else ""
        if entry.modality is not None and entry.arch.endswith("_rda"):
            below = "backbone."
        for key, tensor in own.items():
            if key.startswith("da_"):
                tensors[added + key.replace("da_", f"da{number}_", 1)] = tensor
            else:
                tensors[below + key] = tensor
    parts = released_parts(tensors)
    archs = {architecture(Path(entry.name), backbone) for backbone in parts.backbones}
    assert archs == {entry.arch}
    assert len(parts.backbones) == (2 if entry.modality is None else 1)
    assert fits(entry, parts, entry.arch)


def test_the_catalogue_names_every_file_once_and_knows_its_modalities():
    assert len(BY_NAME) == len(RELEASED)
    known = [entry.sha256 for entry in RELEASED if entry.sha256]
    assert len(known) == len(set(known)) == 21
    for entry in RELEASED:
        assert entry.modality in (None, *RELEASED_PAIRS[entry.scenario].presets), entry.name
        assert entry.url.endswith(entry.name)


def test_parts_of_a_file_are_not_those_of_another():
    parts = released_parts(rda_joint())
    assert parts.branch is None
    assert len(parts.backbones) == 2
    assert parts.backbones[0].keys() == build_backbone("resnet18_rda", 2).state_dict().keys()
    different = joint([{}, {}], 8) | {"module.projector2.0.weight": torch.rand(32, 8)}
    different["module.backbone_1.x"] = torch.rand(1)
    assert len(released_parts(different).projectors) == 2
