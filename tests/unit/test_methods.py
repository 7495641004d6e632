"""Methods: their networks, numbers of views, losses and official variants."""

import numpy as np
import pytest
import torch

from decur.config import apply_variant, count_views, dims_common
from decur.config.methods import CONTRASTIVE_DIMS, METHODS
from decur.errors import DecurError
from decur.losses.decur import decur_loss
from decur.pretrain.loop import train_run
from decur.shards import PairedShards
from decur.training.methods import build_model, compute_loss
from decur.weights import branch_weights, load_backbone, read_weights
from tests.support.pretraining import draw_views, settings


def test_untrained_backbones_normalise_their_features(shards_root, tmp_path):
    weights = train_run(settings(method="random"), shards_root, tmp_path)
    backbone = load_backbone(branch_weights(read_weights(weights)[0], 0), arch="tiny", in_chans=2)
    shards, rows = PairedShards(shards_root), np.arange(48)
    views = draw_views(shards, rows, settings(), 99, 1)
    first = backbone.eval().stage1[:2](views[0][0])
    torch.testing.assert_close(first.mean((0, 2, 3)), torch.zeros(16), atol=0.3, rtol=0)
    torch.testing.assert_close(first.std((0, 2, 3)), torch.ones(16), atol=0.3, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_registered_method_has_a_loss_if_it_trains(method):
    chosen, known = settings(method=method, dim=8, dim_common=6), METHODS[method]
    z = [[torch.randn(16, 8) for _ in range(count_views(chosen))] for _ in range(2)]
    scale = None if known.log_scale is None else torch.tensor(known.log_scale)
    if known.trained:
        assert compute_loss(z, chosen, scale)["loss"].isfinite()
    else:
        with pytest.raises(DecurError, match=f"method '{method}' has no loss"):
            compute_loss(z, chosen, scale)


def test_without_intra_terms_one_view_is_enough():
    z = [[torch.randn(8, 6)], [torch.randn(8, 6)]]
    terms = compute_loss(z, settings(intra=False, dim=6, dim_common=4), None)
    expected = decur_loss(z[0][0], z[0][0], z[1][0], z[1][0], dim_common=4, intra=False)
    torch.testing.assert_close(terms["loss"], expected["loss"])


def test_without_a_projector_the_share_of_common_dimensions_is_kept():
    assert dims_common(settings(projector_layers=0), 192) == 144


def test_single_modal_barlow_twins_trains_each_modality_as_if_alone(shards_root):
    """The gradient of one branch does not depend on the other branch's images."""
    chosen = settings(method="barlow-twins-single")
    shards, rows = PairedShards(shards_root), np.arange(16)
    views = draw_views(shards, rows, chosen, 0, 2)

    def gradient(views):
        model = build_model(chosen, shards)
        compute_loss(model(views), chosen, model.log_scale)["loss"].backward()
        return [p.grad for p in model.backbones[0].parameters()]

    other = [views[0], [view.flip(0) * 0.5 for view in views[1]]]
    torch.testing.assert_close(gradient(views), gradient(other), rtol=0, atol=0)


def test_without_intra_modal_terms_only_decur_draws_one_view():
    assert count_views(settings(intra=False)) == 1
    assert count_views(settings(method="barlow-twins-single", intra=False)) == 2


def test_contrastive_methods_have_their_own_projector(shards_root):
    shards = PairedShards(shards_root)
    model = build_model(settings(method="simclr", projector="shared"), shards)
    assert model.embedding_dim == CONTRASTIVE_DIMS[-1]
    assert len(model.projectors) == 2
    assert all(p.ndim != 2 or p.shape[0] in CONTRASTIVE_DIMS for p in model.projectors.parameters())


@pytest.mark.parametrize(
    ("changes", "lr_1d"),
    [
        ({"optimizer": "lars"}, 0.0012),
        ({"optimizer": "lars", "method": "barlow-twins"}, 0.0012),
        ({"optimizer": "lars", "method": "vicreg"}, 0.0048),
        ({"optimizer": "adamw"}, 0.0048),
    ],
)
def test_official_loses_the_gradient_that_the_released_code_loses(changes, lr_1d):
    assert apply_variant(settings(**changes), "official").lr_1d == pytest.approx(lr_1d)


def test_official_widens_the_features_of_mix_transformers(shards_root):
    shards = PairedShards(shards_root)
    chosen = apply_variant(settings(arch="mit_b0"), "official")
    model = build_model(chosen, shards)
    assert [head.weight.shape for head in model.heads] == [(2048, 256)] * 2
    assert model.projectors[0][0].in_features == 2048
    assert not list(build_model(settings(arch="mit_b0"), shards).heads.parameters())
