import pytest
import torch
from torch import Tensor

from decur.errors import DecurError
from decur.losses.barlow_twins import barlow_twins_loss
from decur.losses.decur import decur_loss

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
    with pytest.raises(DecurError, match="dim_common must be between 0 and the embedding's 6"):
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
