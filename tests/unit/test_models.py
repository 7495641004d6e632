import pytest
import timm
import torch
from torch.nn import functional as F
from torchvision.models import resnet50

from decur.config.architectures import ARCHITECTURES
from decur.errors import DecurError
from decur.models import build_backbone
from decur.models.heads import FCN, LateFusion
from decur.models.mit import DropPath
from decur.models.two_branch import TwoBranch, build_projector
from decur.weights.exporting import FORMATS
from tests.support.plain_mit import plain_stage
from tests.support.released_files import disturbed


@pytest.mark.parametrize(
    "arch", ["tiny", "resnet18", "resnet50", "mit_tiny", "mit_b0", "mit_b1", "vit_s16"]
)
@pytest.mark.parametrize("chans", [1, 2, 3, 13])
def test_backbones_pool_features_of_any_number_of_channels(arch, chans):
    backbone = build_backbone(arch, chans).eval()
    x = torch.rand(2, chans, 64, 64)
    features = backbone(x)
    assert features.shape == (2, backbone.feature_dim)
    stages = backbone.stages(x)
    assert [s.shape[1] for s in stages] == list(backbone.stage_dims)
    torch.testing.assert_close(features, stages[-1].mean(dim=(2, 3)))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_registered_architecture_is_what_the_registry_says(arch):
    known = ARCHITECTURES[arch]
    with torch.device("meta"):
        backbone = build_backbone(arch, 3)
    millions = sum(p.numel() for p in backbone.parameters()) / 1e6
    assert backbone.feature_dim == known.features
    assert millions == pytest.approx(known.parameters, abs=0.06)
    assert not (known.mean_pooled and backbone.pools_last_map)
    assert set(known.formats) <= set(FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("side", [224, 64])
def test_the_class_token_is_timms_own_feature(side):
    ours = build_backbone("vit_s16_token", 2).eval()
    theirs = timm.create_model(
        "vit_small_patch16_224", in_chans=2, num_classes=0, dynamic_img_size=True
    ).eval()
    theirs.load_state_dict(ours.vit.state_dict())
    x = torch.rand(2, 2, side, side)
    torch.testing.assert_close(ours(x), theirs(x))
    mean = build_backbone("vit_s16", 2).eval()
    mean.load_state_dict(ours.state_dict())
    torch.testing.assert_close(mean(x), theirs.forward_features(x)[:, 1:].mean(dim=1))
    for a, b in zip(ours.stages(x), mean.stages(x), strict=True):
        assert torch.equal(a, b)


def test_resnet50_is_torchvisions_by_name_and_value():
    ours = build_backbone("resnet50", 3).eval()
    theirs = resnet50(zero_init_residual=True).eval()
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x))
    assert torch.count_nonzero(ours.state_dict()["layer3.2.bn3.weight"]) == 0


def test_an_unknown_architecture_is_named():
    with pytest.raises(DecurError, match="arch 'vgg'"):
        build_backbone("vgg", 3)


def test_the_projector_has_the_papers_layers_and_no_bias():
    projector = build_projector(2048, 8192, 3)
    shapes = [tuple(p.shape) for p in projector.parameters() if p.ndim == 2]
    assert shapes == [(8192, 2048), (8192, 8192), (8192, 8192)]
    assert all(m.bias is None for m in projector if isinstance(m, torch.nn.Linear))
    assert isinstance(build_projector(5, 8, 0), torch.nn.Identity)


def test_hidden_layers_of_their_own_width_leave_the_last_one_alone_wide():
    projector = build_projector(128, 64, 3, hidden=16)
    shapes = [tuple(p.shape) for p in projector.parameters() if p.ndim == 2]
    assert shapes == [(16, 128), (16, 16), (64, 16)]
    model = TwoBranch("tiny", [2, 3], dim=64, layers=3, hidden=16)
    assert model.embed(torch.rand(4, 2, 32, 32), 0).shape == (4, model.embedding_dim) == (4, 64)


def test_branches_are_apart_unless_the_projector_is_shared():
    for shared, count in ((False, 2), (True, 1)):
        model = TwoBranch("tiny", [2, 3], dim=16, layers=2, shared=shared)
        assert len(model.projectors) == count
        views = [[torch.rand(4, 2, 32, 32)] * 2, [torch.rand(4, 3, 32, 32)]]
        z = model(views)
        assert [[t.shape for t in branch] for branch in z] == [[(4, 16)] * 2, [(4, 16)]]
    assert TwoBranch("tiny", [2, 3], dim=16, layers=0).embedding_dim == 128


def test_late_fusion_concatenates_in_order():
    backbones = [build_backbone("tiny", c).eval() for c in (2, 3)]
    model = LateFusion(backbones, 19)
    xs = [torch.rand(2, c, 32, 32) for c in (2, 3)]
    expected = model.classifier(torch.cat([b(x) for b, x in zip(backbones, xs, strict=True)], 1))
    torch.testing.assert_close(model(xs), expected)


def test_fcn_equals_enlarging_before_classifying():
    """The released code's order of operations, on the same weights."""
    backbones = [build_backbone("tiny", c).eval() for c in (3, 1)]
    model = FCN(backbones, 11)
    xs = [torch.rand(2, c, 48, 48) for c in (3, 1)]
    expected = 0
    for i, reduce, classify in zip((1, 2, 3), model.reduce, model.classify, strict=True):
        stage = torch.cat([b.stages(x)[i] for b, x in zip(backbones, xs, strict=True)], 1)
        large = F.interpolate(reduce(stage), size=(48, 48), mode="bilinear", align_corners=True)
        expected = expected + classify(large)
    logits = model(xs)
    assert logits.shape == (2, 11, 48, 48)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_fcn_on_resnet50_has_the_papers_widths():
    model = FCN([build_backbone("resnet50", 3) for _ in range(2)], 11)
    shapes = [tuple(conv.weight.shape[:2]) for conv in model.reduce]
    assert shapes == [(128, 1024), (256, 2048), (512, 4096)]


@pytest.mark.parametrize(
    ("arch", "parameters"),
    [
        ("mit_b0", 3_319_392),
        ("mit_b1", 13_151_424),
        ("mit_b2", 24_196_288),
        ("mit_b3", 44_072_128),
        ("mit_b4", 60_842_688),
        ("mit_b5", 81_443_008),
    ],
)
def test_mix_transformers_have_the_published_sizes(arch, parameters):
    with torch.device("meta"):
        backbone = build_backbone(arch, 3)
    assert sum(p.numel() for p in backbone.parameters()) == parameters


@pytest.mark.parametrize("arch", ["mit_tiny", "mit_b0", "mit_b2"])
def test_mix_transformers_equal_the_authors_definition_written_out(arch):
    ours = build_backbone(arch, 3).eval()
    ours.load_state_dict(disturbed(ours.state_dict()))
    state = ours.double().state_dict()
    x = 0.05 * torch.rand(2, 3, 64, 96, dtype=torch.float64)  # dark, where eps shows
    with torch.no_grad():
        for number, found in enumerate(ours.stages(x), start=1):
            x = plain_stage(state, number, x)
            torch.testing.assert_close(found, x, rtol=1e-13, atol=1e-13)


def test_a_mix_transformers_stages_can_be_run_one_by_one():
    backbone = build_backbone("mit_b0", 2).eval()
    x = torch.rand(1, 2, 64, 64)
    maps = backbone.stages(x)
    for number, expected in enumerate(maps, start=1):
        x = backbone.stage(number, x)
        torch.testing.assert_close(x, expected)


@pytest.mark.parametrize("side", [32, 40, 48])
def test_the_small_mix_transformer_trains_on_small_scenes(side):
    backbone = build_backbone("mit_tiny", 2).train()
    assert sum(p.numel() for p in backbone.parameters()) < 500_000
    backbone(torch.rand(2, 2, side, side)).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters())


def test_paths_are_dropped_whole_and_made_up_for():
    path = DropPath(0.25).train()
    torch.manual_seed(0)
    y = path(torch.ones(4000, 3, 2))
    kept = y[:, 0, 0] > 0
    assert kept.double().mean() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(y[kept], torch.full_like(y[kept], 1 / 0.75))
    assert torch.equal(path.eval()(y), y)


def test_an_image_too_small_for_a_mix_transformer_is_refused_with_its_size():
    model = build_backbone("mit_tiny", 3)
    assert model(torch.rand(2, 3, 29, 29)).shape == (2, 128)
    with pytest.raises(DecurError, match=r"28 x 64.*\b29\b"):
        model(torch.rand(2, 3, 28, 64))
