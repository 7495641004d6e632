"""Logistic regression against its definition and against scikit-learn, in float64."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from decur.metrics import logistic
from decur.metrics.logistic import Basis, fit_logistic, objective

EXACT = {"steps": 5000, "tolerance": 1e-14}


def features(n=120, d=7, seed=0, offset=0.0):
    """Not centred, correlated, and of very different variances."""
    generator = torch.Generator().manual_seed(seed)
    x, mix = (torch.randn(k, d, generator=generator).double() for k in (n, d))
    return (x @ mix) * torch.logspace(0, -3, d).double() + 2 + offset


def labels(x, kind, seed=1, classes=4):
    """Labels that the features explain in part."""
    generator = torch.Generator().manual_seed(seed)
    z = (x - x.mean(0)) / (x.std(0) + 1e-12)
    logits = z @ torch.randn(x.shape[1], classes, generator=generator).double()
    logits += 3 * torch.randn(len(x), classes, generator=generator)
    return logits.argmax(dim=1) if kind == "single" else (logits > 0).double()


def plain_gradient(weight, bias, x, y, c):
    """The gradient of the objective in numpy, and its value."""
    weight, bias, x, y = (t.numpy() for t in (weight, bias, x, y))
    logits = x @ weight.T + bias
    if y.ndim == 1:
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        loss = -np.log(p[np.arange(len(y)), y]).mean()
        y, terms = np.eye(len(bias))[y], len(y)
    else:
        p = 1 / (1 + np.exp(-logits))
        loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
        terms = y.size
    value = loss + (weight**2).sum() / (2 * c * terms)
    residual = (p - y) / terms
    return residual.T @ x + weight / (c * terms), residual.sum(0), value


@pytest.mark.parametrize("kind", ["single", "multi"])
@pytest.mark.parametrize("c", [1e-6, 1e-2, 1.0, 1e4])
def test_the_gradient_of_the_objective_is_zero_at_what_is_found(kind, c):
    x = features()
    y = labels(x, kind)
    fit = fit_logistic(Basis.of(x), y, c, classes=4, **EXACT)
    of_weight, of_bias, value = plain_gradient(fit.weight, fit.bias, x, y, c)
    assert float(objective(fit.weight, fit.bias, x, y, c)) == pytest.approx(value, rel=1e-12)
    assert abs(of_weight).max() < 1e-6 and abs(of_bias).max() < 1e-6


@pytest.mark.parametrize("c", [1e-4, 1.0, 1e3])
def test_one_class_per_sample_equals_scikit_learn(c):
    x = features()
    y = labels(x, "single")
    fit = fit_logistic(Basis.of(x), y, c, classes=4, **EXACT)
    oracle = LogisticRegression(C=c, solver="newton-cg", tol=1e-12, max_iter=10000).fit(x, y)
    expected = torch.from_numpy(oracle.predict_proba(x))
    torch.testing.assert_close(fit.probabilities(x), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(fit.weight, torch.from_numpy(oracle.coef_), rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("c", [1e-4, 1.0, 1e3])
def test_multi_labels_equal_a_regression_per_class_by_scikit_learn(c):
    x = features()
    y = labels(x, "multi")
    fit = fit_logistic(Basis.of(x), y, c, classes=4, **EXACT)
    found = fit.probabilities(x)
    for k in range(4):
        oracle = LogisticRegression(C=c, solver="newton-cg", tol=1e-12, max_iter=10000)
        expected = oracle.fit(x, y[:, k]).predict_proba(x)[:, 1]
        torch.testing.assert_close(found[:, k], torch.from_numpy(expected), rtol=0, atol=2e-6)


def test_more_features_than_samples_equal_scikit_learn():
    x = features(n=20, d=40)
    y = labels(x, "single", classes=3)
    fit = fit_logistic(Basis.of(x), y, 1.0, classes=3, **EXACT)
    oracle = LogisticRegression(C=1.0, solver="newton-cg", tol=1e-12, max_iter=10000).fit(x, y)
    expected = torch.from_numpy(oracle.predict_proba(x))
    torch.testing.assert_close(fit.probabilities(x), expected, rtol=0, atol=1e-6)


def test_chunks_of_the_scatter_change_nothing(monkeypatch):
    x = features()
    whole = Basis.of(x)
    monkeypatch.setattr(logistic, "CHUNK", 50)
    parts = Basis.of(x)
    torch.testing.assert_close(parts.variances, whole.variances)


@pytest.mark.parametrize("kind", ["single", "multi"])
@pytest.mark.parametrize("scale", [1e-8, 1e4, 1e10, 1e18])
def test_the_scale_of_the_features_and_that_of_the_penalty_cancel(kind, scale):
    """In float32, as features are."""
    x = features().float()
    y = labels(x.double(), kind)
    one = fit_logistic(Basis.of(x), y, 1.0, classes=4, steps=2000, tolerance=1e-6)
    other = fit_logistic(
        Basis.of(x * scale), y, 1.0 / scale**2, classes=4, steps=2000, tolerance=1e-6
    )
    found = other.probabilities(x * scale)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, one.probabilities(x), rtol=0, atol=5e-3)


@pytest.mark.parametrize("offset", [0, 1000])
def test_float32_is_as_good_as_float64_even_far_from_the_origin(offset):
    x = features(offset=offset).float()
    y = labels(x.double(), "multi")
    single, double = (
        fit_logistic(Basis.of(z), y, 1.0, classes=4, steps=2000, tolerance=1e-6)
        for z in (x, x.double())
    )
    near = {"rtol": 0, "atol": 5e-3}
    torch.testing.assert_close(
        single.probabilities(x), double.probabilities(x.double()).float(), **near
    )


def test_constant_features_give_the_share_of_each_class():
    x = torch.full((40, 3), 7.0)
    classes = torch.arange(40) % 4 // 3  # three of four samples are of class 0
    fit = fit_logistic(Basis.of(x), classes, 1e4, classes=2)
    torch.testing.assert_close(
        fit.probabilities(x[:1]), torch.tensor([[0.75, 0.25]]), rtol=0, atol=1e-3
    )
    both = torch.stack([classes, 1 - classes], dim=1).float()
    fit = fit_logistic(Basis.of(x), both, 1e4, classes=2)
    torch.testing.assert_close(
        fit.probabilities(x[:1]), torch.tensor([[0.25, 0.75]]), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("c", [1e-6, 1.0, 1e4])
def test_a_class_that_all_or_no_samples_have_leaves_the_others_as_they_are(c):
    x = features()
    y = labels(x, "multi")
    y[:, 1], y[:, 2] = 0, 1
    fit = fit_logistic(Basis.of(x.float()), y, c, classes=4, steps=2000, tolerance=1e-6)
    found = fit.probabilities(x.float())
    assert found.isfinite().all()
    assert found[:, 1].max() < 0.01 and found[:, 2].min() > 0.99
    oracle = LogisticRegression(C=c, solver="newton-cg", tol=1e-12, max_iter=10000).fit(x, y[:, 0])
    expected = torch.from_numpy(oracle.predict_proba(x)[:, 1]).float()
    torch.testing.assert_close(found[:, 0], expected, rtol=0, atol=0.02)


def test_a_class_that_no_sample_has_is_never_found():
    x = features()
    y = labels(x, "single", classes=3)
    expected = fit_logistic(Basis.of(x), y, 1.0, classes=3).probabilities(x)
    moved = torch.tensor([0, 2, 4])[y]
    found = fit_logistic(Basis.of(x), moved, 1.0, classes=5).probabilities(x)
    assert (found[:, [1, 3]] == 0).all()
    torch.testing.assert_close(found[:, [0, 2, 4]], expected)


def test_a_single_class_is_always_found():
    x = features()
    fit = fit_logistic(Basis.of(x), torch.full((len(x),), 2), 1.0, classes=4)
    assert fit.probabilities(x).tolist() == [[0, 0, 1, 0]] * len(x)


@pytest.mark.parametrize("kind", ["single", "multi"])
@pytest.mark.parametrize("c", [1e-4, 1.0, 1e4])
def test_the_defaults_end_no_farther_from_the_optimum_than_2000_plain_steps(kind, c):
    """In float32, on features as those of a network: positive, and of very different variances."""
    generator = torch.Generator().manual_seed(5)
    x, mix = torch.randn(300, 32, generator=generator), torch.randn(32, 32, generator=generator)
    x = ((x @ mix) * torch.logspace(0, -2, 32)).abs()
    y = labels(x.double(), kind)
    weight = torch.zeros(4, 32, requires_grad=True)
    bias = torch.zeros(4, requires_grad=True)
    plain = torch.optim.LBFGS(
        [weight, bias],
        max_iter=2000,
        history_size=10,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure():
        plain.zero_grad()
        loss = objective(weight, bias, x, y, c)
        loss.backward()
        return loss

    plain.step(closure)
    fit = fit_logistic(Basis.of(x), y, c, classes=4)
    ours, theirs = (
        objective(w.double(), b.double(), x.double(), y, c).item()
        for w, b in ((fit.weight, fit.bias), (weight, bias))
    )
    assert ours < theirs + 2e-5


def test_the_fit_is_the_same_every_time():
    x = features().float()
    y = labels(x.double(), "multi")
    first, second = (fit_logistic(Basis.of(x), y, 1.0, classes=4) for _ in range(2))
    assert torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)
