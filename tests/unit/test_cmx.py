import re

import pytest
import torch
from torch.nn import functional as F

from decur.config import Sliding
from decur.errors import DecurError
from decur.models import build_backbone
from decur.models.cmx import CMX, Decoder, Fusion, Rectification
from decur.transfer.sliding import multiscale_scores
from decur.weights import branch_weights, load_backbone
from tests.support.plain_mit import HEADS, plain_linear, plain_norm, plain_stage
from tests.support.released_files import disturbed


def cmx(classes=5, chans=(3, 3), arch="mit_b0"):
    torch.manual_seed(0)
    return CMX([build_backbone(arch, c) for c in chans], classes)


def scrambled(module):
    """All parameters and running statistics away from their zeros and ones."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            positive = name.endswith("running_var")
            tensor.normal_(1.0 if positive else 0.0, 0.3, generator=generator)
            if positive:
                tensor.abs_()
    return module.double().eval()


def maps(*shape, count=2):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(*shape, dtype=torch.float64, generator=generator) for _ in range(count)]


def linear(x, weight, bias):
    """Plain matrix product over the last axis; 1x1 kernels are matrices too."""
    return torch.einsum("...i,oi->...o", x, weight.flatten(1)) + bias


def test_rectification_follows_its_description_pixel_by_pixel():
    x1, x2 = maps(2, 6, 3, 4)
    frm = scrambled(Rectification(6))
    p = dict(frm.named_parameters())
    expected1, expected2 = torch.empty_like(x1), torch.empty_like(x2)
    for n in range(2):
        means = [x[n, c].sum() / 12 for x in (x1, x2) for c in range(6)]
        peaks = [x[n, c].max() for x in (x1, x2) for c in range(6)]
        hidden = linear(
            torch.stack(means + peaks), p["channel.0.weight"], p["channel.0.bias"]
        ).clamp(min=0)
        w = 1 / (1 + torch.exp(-linear(hidden, p["channel.2.weight"], p["channel.2.bias"])))
        for i in range(3):
            for j in range(4):
                a, b = x1[n, :, i, j], x2[n, :, i, j]
                hidden = linear(torch.cat([a, b]), p["spatial.0.weight"], p["spatial.0.bias"])
                s = linear(hidden.clamp(min=0), p["spatial.2.weight"], p["spatial.2.bias"])
                s = 1 / (1 + torch.exp(-s))
                expected1[n, :, i, j] = a + 0.5 * w[6:] * b + 0.5 * s[1] * b
                expected2[n, :, i, j] = b + 0.5 * w[:6] * a + 0.5 * s[0] * a
    found1, found2 = frm(x1, x2)
    torch.testing.assert_close(found1, expected1)
    torch.testing.assert_close(found2, expected2)


def plain_batch_norm(x, state, name, eps=1e-5):
    weight, bias, mean, var = (
        state[f"{name}.{part}"][:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (var + eps).sqrt() * weight + bias


def plain_fusion(x1, x2, state, heads):
    """FFM on two `(N, C, H, W)`, step by step."""
    n, c, h, w = x1.shape
    d = c // heads
    tokens, stays, queries, contexts = [], [], [], []
    for i, x in enumerate((x1, x2)):
        token = torch.einsum("nchw->nhwc", x).reshape(n, h * w, c)
        name = f"streams.{i}"
        both = linear(token, state[f"{name}.project.weight"], state[f"{name}.project.bias"])
        y, u = both.clamp(min=0)[..., :c], both.clamp(min=0)[..., c:]
        kv = linear(u, state[f"{name}.kv.weight"], 0)
        k, v = kv[..., :c], kv[..., c:]
        context = torch.empty(n, heads, d, d, dtype=x.dtype)
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            scores = torch.einsum("nla,nlb->nab", k[..., part], v[..., part]) * d**-0.5
            powers = torch.exp(scores)
            context[:, head] = powers / powers.sum(dim=1, keepdim=True)  # over the keys
        tokens.append(token)
        stays.append(y)
        queries.append(u)
        contexts.append(context)
    merged = []
    for i in range(2):
        name = f"streams.{i}"
        taken = torch.empty_like(tokens[i])
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            other = contexts[1 - i][:, head]
            taken[..., part] = torch.einsum("nla,nab->nlb", queries[i][..., part], other)
        pair = torch.cat([stays[i], taken], dim=-1)
        update = linear(pair, state[f"{name}.merge.weight"], state[f"{name}.merge.bias"])
        merged.append(plain_norm(tokens[i] + update, state, f"{name}.norm", 1e-5))
    both = torch.cat(merged, dim=-1)
    skip = linear(both, state["skip.weight"], 0)
    hidden = linear(both, state["mix.0.weight"], state["mix.0.bias"]).reshape(n, h, w, c)
    padded = torch.zeros(n, h + 2, w + 2, c, dtype=x1.dtype)
    padded[:, 1:-1, 1:-1] = hidden
    depthwise = state["mix.1.bias"].expand(n, h, w, c)
    for i in range(3):
        for j in range(3):
            depthwise = (
                depthwise + padded[:, i : i + h, j : j + w] * state["mix.1.weight"][:, 0, i, j]
            )
    mixed = linear(depthwise.clamp(min=0), state["mix.3.weight"], state["mix.3.bias"])
    mixed = plain_batch_norm(torch.einsum("nhwc->nchw", mixed), state, "mix.4")
    skip = torch.einsum("nhwc->nchw", skip.reshape(n, h, w, c))
    return plain_batch_norm(skip + mixed, state, "norm")


@pytest.mark.parametrize("heads", [1, 2, 5])
def test_fusion_follows_its_description_step_by_step(heads):
    x1, x2 = maps(2, 20, 3, 4)
    ffm = scrambled(Fusion(20, heads))
    expected = plain_fusion(x1, x2, ffm.state_dict(), heads)
    torch.testing.assert_close(ffm(x1, x2), expected)


def plain_rectification(x1, x2, state):
    """FRM on two `(N, C, H, W)`."""
    both = torch.cat([x1, x2], dim=1)
    pooled = torch.cat([both.mean(dim=(2, 3)), both.flatten(2).max(dim=2).values], dim=1)
    hidden = plain_linear(pooled, state, "channel.0").clamp(min=0)
    w = torch.sigmoid(plain_linear(hidden, state, "channel.2"))[:, :, None, None]
    hidden = linear(both.movedim(1, -1), state["spatial.0.weight"], state["spatial.0.bias"])
    s = linear(hidden.clamp(min=0), state["spatial.2.weight"], state["spatial.2.bias"])
    s = torch.sigmoid(s).movedim(-1, 1)
    c = x1.shape[1]
    out1 = x1 + 0.5 * w[:, c:] * x2 + 0.5 * s[:, 1:] * x2
    return out1, x2 + 0.5 * w[:, :c] * x1 + 0.5 * s[:, :1] * x1


def plain_decoder(features, state, size):
    """Enlarge all, concatenate from coarse to fine, convolve, classify, enlarge."""
    large = []
    for i, x in enumerate(features):
        reduced = plain_linear(x.movedim(1, -1), state, f"reduce.{i}").movedim(-1, 1)
        large.append(F.interpolate(reduced, size=features[0].shape[2:], mode="bilinear"))
    fused = F.conv2d(torch.cat(large[::-1], dim=1), state["fuse.weight"], state["fuse.bias"])
    fused = plain_batch_norm(fused, state, "norm", 1e-3).clamp(min=0)
    logits = F.conv2d(fused, state["classify.weight"], state["classify.bias"])
    return F.interpolate(logits, size=size, mode="bilinear")


def below(state, prefix):
    return {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}


def plain_cmx(x1, x2, state):
    size, fused = x1.shape[2:], []
    for i in range(4):
        x1 = plain_stage(below(state, "backbones.0."), i + 1, x1)
        x2 = plain_stage(below(state, "backbones.1."), i + 1, x2)
        x1, x2 = plain_rectification(x1, x2, below(state, f"rectify.{i}."))
        fused.append(plain_fusion(x1, x2, below(state, f"fuse.{i}."), HEADS[i]))
    return plain_decoder(fused, below(state, "decoder."), size)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["mit_tiny", "mit_b2"])
def test_the_whole_network_equals_the_authors_definition_written_out(arch):
    model = cmx(arch=arch)
    model.load_state_dict(disturbed(model.state_dict()))
    model.double().eval()
    xs = maps(1, 3, 64, 96)
    with torch.no_grad():
        expected = plain_cmx(*xs, model.state_dict())
        torch.testing.assert_close(model(xs), expected, rtol=1e-13, atol=1e-13)


def test_the_decoder_equals_enlarging_and_concatenating_first():
    """The description's order: enlarge all, concatenate from coarse to fine, convolve."""
    sizes = [(12, 10), (6, 5), (3, 3), (2, 2)]
    features = [
        maps(2, dim, *size, count=1)[0] for dim, size in zip((4, 6, 8, 10), sizes, strict=True)
    ]
    decoder = scrambled(Decoder((4, 6, 8, 10), 7))
    large = [
        F.interpolate(reduce(x.movedim(1, -1)).movedim(-1, 1), size=sizes[0], mode="bilinear")
        for reduce, x in zip(decoder.reduce, features, strict=True)
    ]
    fused = F.relu(decoder.norm(decoder.fuse(torch.cat(large[::-1], dim=1))))
    torch.testing.assert_close(decoder(features), decoder.classify(fused))


def test_modules_start_as_documented():
    decoder = Decoder((64, 128, 320, 512), 40)
    assert (decoder.norm.eps, decoder.norm.momentum) == (1e-3, 0.1)
    for convolution, fan_in in ((decoder.fuse, 2048), (decoder.classify, 512)):
        assert convolution.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)
    model = cmx()
    fan_out = 3 * 3 * 256  # depthwise 3x3 of the last stage: 256 groups
    weight = model.fuse[3].mix[1].weight
    assert weight.std().item() == pytest.approx((2 * 256 / fan_out) ** 0.5, rel=0.1)
    assert model.fuse[3].streams[0].kv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.rectify[3].channel[0].weight.std().item() == pytest.approx(0.02, rel=0.1)


# Two encoders, and with C over the stages' widths, 512 = the decoder's width and 40 classes:
#   rectification 4C*4C + 4C + 4C*2C + 2C + 2C*C + C + 2C + 2                = 26 C^2 +  9 C + 2
#   fusion        2 (2C*C + 2C + 2C*C + 2C*C + C + 2C) + 2C*C
#                 + 2C*C + C + 9C + C + C*C + C + 2C + 2C                    = 17 C^2 + 26 C
#   decoder       512 sum(C) + 4*512 + 2048*512 + 512 + 2*512 + 512*40 + 40
# B0: sum C =  512, sum C^2 =  96 256: 2 *  3 319 392 +  4 156 936 + 1 334 824
# B2: sum C = 1024, sum C^2 = 385 024: 2 * 24 196 288 + 16 591 880 + 1 596 968
# B5: as B2 with 2 * 81 443 008
# tiny: sum C = 256, sum C^2 = 24 064: 2 * 484 528 + 1 043 720 + 35 816, its decoder 64 wide
@pytest.mark.parametrize(
    ("arch", "parameters"),
    [
        ("mit_tiny", 2_048_592),
        ("mit_b0", 12_130_544),
        ("mit_b2", 66_581_424),
        ("mit_b5", 181_074_864),
    ],
)
def test_cmx_has_the_sizes_that_its_description_gives(arch, parameters):
    with torch.device("meta"):
        model = cmx(40, arch=arch)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_small_cmx_trains_where_its_last_stage_is_one_pixel():
    model = cmx(arch="mit_tiny").train()
    xs = [torch.randn(4, 3, 32, 32) for _ in range(2)]
    logits = model(xs)
    assert logits.shape == (4, 5, 32, 32)
    F.cross_entropy(logits, torch.randint(5, (4, 32, 32))).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("size", [(480, 640), (70, 50), (33, 65)])
def test_logits_have_the_size_of_the_image(size):
    model = cmx(37, chans=(3, 1)).eval()
    with torch.no_grad():
        assert model([torch.rand(1, 3, *size), torch.rand(1, 1, *size)]).shape == (1, 37, *size)


def test_every_parameter_of_both_streams_and_of_the_fusion_is_trained():
    """In evaluation mode: biases before a batch norm have no gradient from batch statistics."""
    model = cmx().double().eval()
    xs = maps(2, 3, 70, 50)
    targets = torch.randint(5, (2, 70, 50), generator=torch.Generator().manual_seed(3))
    F.cross_entropy(model(xs), targets).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-12, name


def test_a_training_step_has_finite_gradients_and_moves_both_streams():
    model = cmx().train()
    before = {k: v.clone() for k, v in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    xs = [torch.randn(2, 3, 64, 64) for _ in range(2)]
    F.cross_entropy(model(xs), torch.randint(5, (2, 64, 64))).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    optimizer.step()
    moved = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}
    streams = {k for k in before if k.startswith("backbones.") and k.endswith("weight")}
    assert {k.split(".")[1] for k in streams} == {"0", "1"}
    assert streams <= moved


def test_an_input_reaches_the_other_streams_next_stage():
    """Rectified maps go on: a change of one input shows in what the other's stage 2 is given."""
    model = cmx().eval()
    seen = []
    model.backbones[1].patch_embed2.register_forward_hook(lambda _, xs, y: seen.append(xs[0]))
    x1, x2 = (torch.rand(1, 3, 64, 64) for _ in range(2))
    with torch.no_grad():
        model([x1, x2])
        model([x1 + 1, x2])
    assert not torch.allclose(seen[0], seen[1])


def halves(tensor, dim, parts):
    """Exchange the two streams' channels in every pair of blocks along `dim`."""
    blocks = tensor.chunk(2 * parts, dim=dim)
    return torch.cat(
        [block for i in range(0, 2 * parts, 2) for block in blocks[i : i + 2][::-1]], dim
    )


def exchanged(state):
    """The weights of the CMX whose first stream is the given one's second."""
    rules = {
        r"rectify\.\d\.channel\.0\.weight": (1, 2),
        r"rectify\.\d\.channel\.2\.": (0, 1),
        r"rectify\.\d\.spatial\.0\.weight": (1, 1),
        r"rectify\.\d\.spatial\.2\.": (0, 1),
        r"fuse\.\d\.(skip|mix\.0)\.weight": (1, 1),
    }
    result = {}
    for name, tensor in state.items():
        new = re.sub(r"(^backbones|streams)\.(\d)", lambda m: f"{m[1]}.{1 - int(m[2])}", name)
        for pattern, (dim, parts) in rules.items():
            if re.match(pattern, name):
                tensor = halves(tensor, dim, parts)
        result[new] = tensor
    return result


def test_exchanging_the_streams_and_the_inputs_changes_nothing():
    model, mirrored = cmx(chans=(3, 2)).double().eval(), cmx(chans=(2, 3)).double().eval()
    mirrored.load_state_dict(exchanged(model.state_dict()))
    (x1,), (x2,) = maps(1, 3, 64, 64, count=1), maps(1, 2, 64, 64, count=1)
    with torch.no_grad():
        torch.testing.assert_close(mirrored([x2, x1]), model([x1, x2]))
        same = cmx().double().eval()
        x2 = torch.cat([x2, x2[:, :1]], dim=1)
        assert not torch.allclose(same([x2, x1]), same([x1, x2]))


@pytest.mark.parametrize("stream", [0, 1])
def test_loading_pretrained_weights_changes_exactly_that_streams_tensors(stream):
    torch.manual_seed(7)
    pretrained = {
        f"backbones.{i}.{name}": torch.randn_like(tensor)
        for i in range(2)
        for name, tensor in build_backbone("mit_b0", 3).state_dict().items()
    }
    model = cmx()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    weights = branch_weights(pretrained, stream)
    model.backbones[stream].load_state_dict(weights)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"backbones.{stream}.{name}" for name in weights}
    assert torch.equal(
        model.state_dict()[f"backbones.{stream}.norm4.weight"],
        pretrained[f"backbones.{stream}.norm4.weight"],
    )


def test_cmx_takes_over_the_backbones_that_it_is_given():
    weights = [build_backbone("mit_b0", c).state_dict() for c in (3, 1)]
    loaded = [
        load_backbone(w, arch="mit_b0", in_chans=c) for w, c in zip(weights, (3, 1), strict=True)
    ]
    model = CMX(loaded, 40)
    for i in range(2):
        for name, tensor in branch_weights(model.state_dict(), i).items():
            assert torch.equal(tensor, weights[i][name]), name


@pytest.mark.parametrize(
    "archs",
    [["mit_b0"], ["mit_b0"] * 3, ["mit_b0", "mit_b1"], ["tiny", "tiny"], ["resnet18", "mit_b0"]],
)
def test_anything_but_two_mix_transformers_of_one_architecture_is_refused(archs):
    with pytest.raises(DecurError, match=r"CMX .*mit_tiny, mit_b0, "):
        CMX([build_backbone(arch, 3) for arch in archs], 5)


def test_whole_images_are_scored_by_a_cmx():
    model = cmx().eval()
    xs = [torch.rand(1, 3, 80, 100) for _ in range(2)]
    how = Sliding(window=(64, 64), scales=(0.75, 1.0), flip=True)
    with torch.no_grad():
        scores = multiscale_scores(model, xs, how)
    assert scores.shape == (1, 5, 80, 100)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(1, 80, 100))
