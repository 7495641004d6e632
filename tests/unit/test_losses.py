import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from decur.errors import DecurError
from decur.losses.barlow_twins import barlow_twins_loss
from decur.losses.clip import clip_loss
from decur.losses.decur import decur_loss
from decur.losses.simclr import simclr_loss
from decur.losses.vicreg import vicreg_loss

LAMBDA = 0.0051


# The definition, with every K x K matrix written out.


def correlation(za: Tensor, zb: Tensor) -> Tensor:
    za, zb = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (za, zb))
    return za.T @ zb / len(za)


def distance(c: Tensor, target: float, lambd: float) -> Tensor:
    off = c - torch.diag(c.diagonal())
    return (c.diagonal() - target).square().sum() + lambd * off.square().sum()


def plain_barlow_twins(za: Tensor, zb: Tensor, lambd: float = LAMBDA) -> Tensor:
    return distance(correlation(za, zb), 1, lambd)


def plain_decur(
    z1a: Tensor,
    z1b: Tensor,
    z2a: Tensor,
    z2b: Tensor,
    dim_common: int,
    weighting: str = "paper",
    lambd: float = LAMBDA,
) -> Tensor:
    across = correlation(z1a, z2a)
    common = distance(across[:dim_common, :dim_common], 1, lambd)
    unique = distance(across[dim_common:, dim_common:], 0, lambd)
    intra = plain_barlow_twins(z1a, z1b, lambd) + plain_barlow_twins(z2a, z2b, lambd)
    if weighting == "paper":
        return intra + common + unique
    return (intra + (common + unique) / 2) / 3


def plain_vicreg(za: Tensor, zb: Tensor) -> Tensor:
    total = 25 * (za - zb).square().mean()
    for z in (za, zb):
        covariance = torch.cov(z.T, correction=1).reshape(z.shape[1], z.shape[1])
        off = covariance - torch.diag(covariance.diagonal())
        hinge = (1 - (covariance.diagonal() + 1e-4).sqrt()).clamp(min=0)
        total = total + 25 * hinge.mean() / 2 + off.square().sum() / z.shape[1]
    return total


def plain_simclr(za: Tensor, zb: Tensor, temperature: float = 0.1) -> Tensor:
    z = torch.cat([za, zb])
    z = z / z.norm(dim=1, keepdim=True)
    n, total = len(za), z.new_zeros(())
    for i in range(2 * n):
        weights = torch.stack([(z[i] @ z[j] / temperature).exp() for j in range(2 * n) if j != i])
        total = total + weights.sum().log() - z[i] @ z[(i + n) % (2 * n)] / temperature
    return total / (2 * n)


def plain_clip(za: Tensor, zb: Tensor, scale: float = 1 / 0.07, symmetric: bool = True) -> Tensor:
    za, zb = (z / z.norm(dim=1, keepdim=True) for z in (za, zb))
    logits = za @ zb.T * scale
    forth, back = (-m.log_softmax(1).diagonal().mean() for m in (logits, logits.T))
    return (forth + back) / 2 if symmetric else forth


BASELINES = {
    "vicreg": (vicreg_loss, plain_vicreg),
    "simclr": (simclr_loss, plain_simclr),
    "simclr, temperature 1": (
        lambda a, b: simclr_loss(a, b, temperature=1),
        lambda a, b: plain_simclr(a, b, 1),
    ),
    "clip": (lambda a, b: clip_loss(a, b, scale=1 / 0.07), plain_clip),
    "clip, one way": (
        lambda a, b: clip_loss(a, b, scale=1, symmetric=False),
        lambda a, b: plain_clip(a, b, 1, symmetric=False),
    ),
}


def random_views(n: int, k: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n * 1000 + k)
    shared = torch.randn(n, k, generator=generator, dtype=torch.float64)
    return [
        (shared + torch.randn(n, k, generator=generator, dtype=torch.float64) + v)
        .to(dtype)
        .requires_grad_()
        for v in range(4)
    ]


def golden_views() -> list[Tensor]:
    b = torch.arange(8, dtype=torch.float64)[:, None]
    k = torch.arange(6, dtype=torch.float64)
    return [torch.sin(1.0 + 0.7 * b + 1.3 * k * (s + 1) + 0.11 * b * k * s) for s in range(4)]


def relative_error(x: Tensor, reference: Tensor) -> float:
    return float(((x.double() - reference).norm() / reference.norm()).detach())


@pytest.mark.parametrize(
    ("weighting", "total"), [("paper", 19.9572526407), ("official", 5.6315645005)]
)
def test_decur_reproduces_the_golden_values(weighting, total):
    terms = decur_loss(*golden_views(), dim_common=4, weighting=weighting)
    golden = {
        "loss": total,
        "intra1": 6.6807127734,
        "intra2": 7.1514215893,
        "common": 6.0946243714,
        "unique": 0.0304939067,
    }
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(golden, abs=1e-9)


def test_barlow_twins_reproduces_the_golden_value():
    z1a, _, z2a, _ = golden_views()
    terms = barlow_twins_loss(z1a, z2a)
    assert terms["loss"].item() == pytest.approx(8.0553472542, abs=1e-9)
    recombined = terms["on_diagonal"] + LAMBDA * terms["off_diagonal"]
    assert float(terms["loss"]) == pytest.approx(float(recombined))


def test_the_baselines_reproduce_the_golden_values():
    z1a, _, z2a, _ = golden_views()
    assert clip_loss(z1a, z2a, scale=1, symmetric=False)["loss"].item() == pytest.approx(
        2.1921711649, abs=1e-9
    )
    assert simclr_loss(z1a, z2a, temperature=1)["loss"].item() == pytest.approx(
        2.7643543859, abs=1e-9
    )
    assert vicreg_loss(z1a, z2a)["loss"].item() == pytest.approx(31.0659837592, abs=1e-9)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(("n", "k"), [(8, 32), (24, 10), (2, 5), (9, 1)])
def test_baselines_and_their_gradients_equal_the_plain_definition(name, n, k):
    ours, plain = BASELINES[name]
    za, zb, *_ = random_views(n, k)
    ours, plain = ours(za, zb)["loss"], plain(za, zb)
    torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (za, zb)),
        torch.autograd.grad(plain, (za, zb)),
        rtol=1e-8,
        atol=1e-11,
    )


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(("n", "k"), [(64, 128), (64, 1024)])
def test_baselines_in_float32_stay_within_a_millionth_of_float64(name, n, k):
    ours, _ = BASELINES[name]
    single = random_views(n, k, torch.float32)[:2]
    exact = [z.detach().double().requires_grad_() for z in single]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ours(*single)["loss"]
    reference = ours(*exact)["loss"]
    assert loss.dtype == torch.float32
    assert relative_error(loss, reference) < 1e-6
    grads = zip(
        torch.autograd.grad(loss, single), torch.autograd.grad(reference, exact), strict=True
    )
    for grad, exact_grad in grads:
        assert relative_error(grad, exact_grad) < 1e-5


def test_accuracy_counts_the_anchors_whose_positive_is_nearest():
    z = torch.eye(6, dtype=torch.float64)
    assert clip_loss(z, z, scale=1)["accuracy"] == simclr_loss(z, z)["accuracy"] == 1
    swapped = z[[1, 0, 2, 3, 4, 5]]
    assert clip_loss(z, swapped, scale=1)["accuracy"].item() == pytest.approx(4 / 6)


def test_the_learnt_scale_gets_a_gradient_and_stops_at_100():
    za, zb, *_ = random_views(8, 16)
    scale = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(clip_loss(za, zb, scale=scale)["loss"], scale)
    assert grad != 0
    with torch.no_grad():
        assert clip_loss(za, zb, scale=500.0)["loss"] == clip_loss(za, zb, scale=100.0)["loss"]


@pytest.mark.parametrize("weighting", ["paper", "official"])
@pytest.mark.parametrize(
    ("n", "k", "dim_common"),
    [(8, 32, 24), (8, 32, 0), (8, 32, 32), (64, 10, 3), (2, 5, 4), (16, 16, 15), (7, 1, 0)],
)
def test_decur_and_its_gradient_equal_the_plain_definition(n, k, dim_common, weighting):
    views = random_views(n, k)
    ours = decur_loss(*views, dim_common=dim_common, weighting=weighting)["loss"]
    plain = plain_decur(*views, dim_common=dim_common, weighting=weighting)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(ours, views), torch.autograd.grad(plain, views), rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize(("n", "k"), [(8, 32), (64, 10), (2, 5), (9, 1)])
def test_barlow_twins_and_its_gradient_equal_the_plain_definition(n, k):
    za, zb, *_ = random_views(n, k)
    ours = barlow_twins_loss(za, zb, lambd=0.02)["loss"]
    plain = plain_barlow_twins(za, zb, lambd=0.02)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (za, zb)),
        torch.autograd.grad(plain, (za, zb)),
        rtol=1e-9,
        atol=1e-11,
    )


def test_gradients_of_single_terms_equal_the_plain_definition():
    views = random_views(8, 20)
    ours = decur_loss(*views, dim_common=15)["unique"]
    plain = distance(correlation(views[0], views[2])[15:, 15:], 0, LAMBDA)
    ours, plain = (torch.autograd.grad(t, (views[0], views[2])) for t in (ours, plain))
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("n", "k", "dim_common"), [(64, 1024, 896), (256, 2048, 1536)])
def test_float32_stays_within_a_millionth_of_float64(n, k, dim_common):
    exact, single = random_views(n, k), random_views(n, k, torch.float32)
    rounded = [z.detach().double().requires_grad_() for z in single]
    reference = decur_loss(*rounded, dim_common=dim_common)["loss"]
    ours = decur_loss(*single, dim_common=dim_common)["loss"]
    plain = plain_decur(*exact, dim_common=dim_common)
    assert ours.dtype == torch.float32
    assert relative_error(ours, reference) < 1e-6
    assert relative_error(ours, plain) < 1e-6
    for ours_grad, reference_grad in zip(
        torch.autograd.grad(ours, single), torch.autograd.grad(reference, rounded), strict=True
    ):
        assert relative_error(ours_grad, reference_grad) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_even_under_autocast(dtype):
    views = random_views(32, 256, dtype)
    reference = decur_loss(*[z.double() for z in views], dim_common=192)["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = decur_loss(*views, dim_common=192)["loss"]
    assert ours.dtype == torch.float32
    assert relative_error(ours, reference) < 1e-6
    assert torch.autograd.grad(ours, views)[0].dtype == dtype


@pytest.mark.parametrize("weighting", ["paper", "official"])
def test_without_intra_terms_only_the_first_views_count(weighting):
    views = random_views(8, 12)
    terms = decur_loss(*views, dim_common=9, weighting=weighting, intra=False)
    across = (terms["common"] + terms["unique"]).detach()
    across = across / {"paper": 1, "official": 6}[weighting]
    torch.testing.assert_close(terms["loss"].detach(), across)
    assert terms["intra1"] == terms["intra2"] == 0
    grads = torch.autograd.grad(terms["loss"], views, allow_unused=True)
    assert [g is None for g in grads] == [False, True, False, True]


def test_all_common_without_intra_is_cross_modal_barlow_twins():
    views = random_views(8, 12)
    ours = decur_loss(*views, dim_common=12, intra=False)
    assert ours["unique"] == 0
    torch.testing.assert_close(ours["loss"], barlow_twins_loss(views[0], views[2])["loss"])


def test_a_constant_dimension_gives_finite_gradients():
    z = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    z[:, 0] = 3.0
    z.requires_grad_()
    barlow_twins_loss(z, z.detach())["loss"].backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("dim_common", [-1, 7])
def test_dim_common_beyond_the_embedding_is_refused(dim_common):
    with pytest.raises(DecurError, match=r"dim_common .*\b6\b"):
        decur_loss(*golden_views(), dim_common=dim_common)


def test_other_bad_input_is_refused():
    views = golden_views()
    with pytest.raises(DecurError, match="of one shape"):
        decur_loss(*views[:3], views[3][:, :5], dim_common=4)
    with pytest.raises(DecurError, match="of one shape"):
        barlow_twins_loss(views[0][None], views[1][None])
    with pytest.raises(DecurError, match="weighting"):
        decur_loss(*views, dim_common=4, weighting="mean")
    with pytest.raises(DecurError, match="batch of one row"):
        barlow_twins_loss(views[0][:1], views[1][:1])
    with pytest.raises(DecurError, match="batch of one row"):
        vicreg_loss(views[0][:1], views[1][:1])


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return out


def test_no_tensor_of_the_loss_is_larger_than_the_embeddings():
    n, k = 64, 65536
    views = [z.requires_grad_() for z in torch.randn(4, n, k)]
    with Largest() as largest:
        decur_loss(*views, dim_common=k * 7 // 8)["loss"].backward()
    assert views[0].grad is not None
    assert n * k // 2 < largest.elements <= n * k
    with Largest() as largest:  # it would see one
        correlation(*torch.randn(2, 4, 256))
    assert largest.elements == 256 * 256
