"""The estimate of the share of common dimensions, against pairs whose share is known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from decur.artifacts.paths import Paths
from decur.cli import main
from decur.config import ExplainSettings, PretrainSettings, parse_config
from decur.config.experiments import Experiment, share_runs
from decur.config.explainers import Share
from decur.errors import DecurError
from decur.explain.run import explain
from decur.explain.share import aligned_share, canonical_share
from decur.pretrain.loop import train_run
from decur.tables.explained.share import BEST, PAPER, compare, estimates, share_page
from decur.tables.figures import curves
from decur.tables.markdown import as_markdown
from decur.tables.results import collate
from tests.support.pretraining import settings as pretrain_settings
from tests.support.tables import GEONRW, config, curve, put_all

K, N = 32, 512
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def sources(share: float, noise: float, k: int = K, n: int = N) -> list[list[np.ndarray]]:
    """Two views of two modalities, `[modality][view]` `(n, k)`: `share` of the columns are common,
    the rest of one modality; views differ by noise."""
    rng = np.random.default_rng(7)
    common = round(share * k)
    shared = rng.normal(size=(n, common))
    own = [np.hstack([shared, rng.normal(size=(n, k - common))]) for _ in range(2)]
    return [[x + noise * rng.normal(size=x.shape) for _ in range(2)] for x in own]


def mixed(share: float, noise: float = 0.0, **size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same, each modality mixed by a random matrix of its own."""
    rng = np.random.default_rng(8)
    found = []
    for a, b in sources(share, noise, **size):
        matrix = rng.normal(size=(a.shape[1], a.shape[1]))
        found.append((a @ matrix, b @ matrix))
    return found


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("noise", "tolerance"), [(0, 0.01), (0.5, 0.05)])
def test_canonical_correlations_recover_the_share_of_mixed_features(share, noise, tolerance):
    found = canonical_share(*mixed(share, noise))
    assert found.share == pytest.approx(share, abs=tolerance)
    if noise == 0:
        assert found.within1 == pytest.approx(K, abs=0.5)


def rotated(share: float, noise: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Both modalities in one basis, as the loss makes it, which mixes common and unique."""
    rotation, _ = np.linalg.qr(np.random.default_rng(9).normal(size=(K, K)))
    return [(a @ rotation, b @ rotation) for a, b in sources(share, noise)]


@pytest.mark.parametrize("share", SHARES)
def test_alignment_recovers_the_share_of_rotated_embeddings(share):
    assert aligned_share(*rotated(share, noise=0.5)).share == pytest.approx(share, abs=0.05)


def test_no_threshold_on_the_alignment_loss_recovers_it():
    for share, below in ((0.25, 0), (0.75, 1)):
        (z1, _), (z2, _) = rotated(share, noise=0)
        loss = (1 - (z1 * z2).mean(0) / z1.std(0) / z2.std(0)) ** 2
        assert (loss < 0.25).mean() == pytest.approx(below, abs=0.1)


@pytest.mark.parametrize("estimator", [aligned_share, canonical_share])
def test_independent_pairs_share_nothing_and_identical_ones_everything(estimator):
    (a, b), (c, d) = mixed(0, noise=0.5)
    assert estimator((a, b), (c, d)).share < 0.02
    assert estimator((a, b), (a, b)).share == pytest.approx(1, abs=0.01)
    shuffled = [x[np.random.default_rng(1).permutation(N)] for x in (a, b)]
    assert estimator((a, b), (shuffled[0], shuffled[1])).share < 0.02


def test_few_samples_give_less_than_the_share_not_more():
    for share in SHARES[:-1]:
        found = canonical_share(*mixed(share, noise=0.5, k=128, n=128)).share
        assert found <= share + 0.03


def test_columns_that_are_constant_or_repeated_change_nothing():
    views1, views2 = mixed(0.5)

    def spoiled(x: np.ndarray) -> np.ndarray:
        return np.hstack([x, x[:, :8] - x[:, 8:16], np.full((len(x), 3), 5.0)])

    plain = canonical_share(views1, views2)
    wide = canonical_share(*[(spoiled(a), spoiled(b)) for a, b in (views1, views2)])
    assert wide.share == pytest.approx(plain.share, abs=0.01)
    assert wide.within1 == pytest.approx(K, abs=0.5)


@pytest.mark.parametrize("estimator", [aligned_share, canonical_share])
def test_modalities_that_do_not_repeat_themselves_have_no_share(estimator):
    flat = np.ones((64, 4))
    assert np.isnan(estimator((flat, flat), (flat, flat)).share)


def test_without_a_direction_that_repeats_there_is_none_to_share():
    noise = np.random.default_rng(0).normal(size=(4, N, K))
    found = canonical_share((noise[0], noise[1]), (noise[2], noise[3]))
    assert found.within1 < 1 and np.isnan(found.share)


def test_views_must_be_of_the_same_samples():
    x = np.zeros((16, 4))
    with pytest.raises(DecurError, match="expected equal numbers of at least 8"):
        canonical_share((x, x), (x, x[:8]))
    with pytest.raises(DecurError, match="at least 8"):
        aligned_share((x[:4], x[:4]), (x[:4], x[:4]))
    with pytest.raises(DecurError, match="same shape"):
        aligned_share((x, x), (x[:, :2], x[:, :2]))


def test_a_run_is_estimated_into_a_csv_with_its_origin(shards_root, tmp_path):
    recipe: PretrainSettings = pretrain_settings(epochs=1)
    weights = train_run(recipe, shards_root, tmp_path / "run")
    asked = ExplainSettings[Share](
        run="sar-optical/decur/default/seed-1", pretrain=recipe, recipe=Share()
    )
    explain("share", asked, weights, shards_root, tmp_path / "again.csv")
    where = ["--weights", str(weights), "--shards", str(shards_root)]
    asked_for = ["--settings", asked.model_dump_json(), "--out", str(tmp_path / "share.csv")]
    assert main(["explain", "share", *where, *asked_for]) == 0
    found = pd.read_csv(tmp_path / "share.csv", index_col="estimate")
    assert list(found.index) == ["alignment", "canonical"]
    assert list(found) == ["cross", "within1", "within2", "share", "shuffled"]
    assert found.loc["alignment", "within1"] > 0
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "share.csv").read_bytes()
    origin = json.loads((tmp_path / "share.json").read_text())["provenance"]
    assert origin["settings"]["run"] == "sar-optical/decur/default/seed-1"
    assert "weights.safetensors" in origin["inputs"]


GRID = {25: "common-25", 50: "common-50", 75: "common-75", 100: "common-100"}


def write_estimates(paths: Paths, run: str, **shares: float) -> Path:
    path = Path(paths.explain(run, "share"))
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"estimate": list(shares), "share": list(shares.values())})
    frame.to_csv(path, index=False)
    return path


def share_experiment() -> Experiment:
    return curve(GRID, seeds=1).model_copy(update={"kind": "share"})


def test_estimates_of_all_seeds_stand_beside_the_grid_of_one(tmp_path):
    paths, wanted = Paths(str(tmp_path), "small"), share_experiment()
    of_rgb_dem = [(x, str(run)) for x, run in share_runs(wanted, config()) if x > 50]
    assert [found for found in of_rgb_dem if "rgb-dem" in found[1]] == [
        (75, "rgb-dem/decur/default/seed-0"),
        *((100, f"rgb-dem/decur/common-100/seed-{seed}") for seed in range(3)),
    ]
    put_all(paths, wanted, config())
    run = "rgb-dem/decur/common-100/seed-{}"
    write_estimates(paths, run.format(0), alignment=0.7, canonical=0.5)
    write_estimates(paths, run.format(1), alignment=0.8, canonical=np.nan)
    write_estimates(paths, "rgb-dem/decur/default/seed-0", alignment=0.6, canonical=0.3)
    grid, found = collate(wanted, config(), paths), estimates(wanted, config(), paths)
    frame = compare(grid, found, wanted)
    own = frame[(frame["scenario"] == "rgb-dem") & (frame["protocol"] == "linear")]
    own = own.set_index("source")
    assert own.loc["estimate: alignment", ["share", "n"]].tolist() == pytest.approx([75, 2])
    assert own.loc["estimate: canonical", ["share", "n"]].tolist() == pytest.approx([50, 1])
    assert own.loc[PAPER, "share"] == 75
    points = own.loc["grid"].set_index("share")["score"]
    assert own.loc["estimate: alignment", "score"] == pytest.approx(points[75])
    assert own.loc[BEST, "score"] == points.max() and own.loc[BEST, "behind"] == 0
    assert own.loc["estimate: canonical", "behind"] == pytest.approx(points.max() - points[50])
    text = as_markdown(share_page(frame, found, wanted, config()))
    assert "| 75.0 ± 7.1 |" in text and PAPER in text
    assert "| RGB-DEM | 75 | 60 | 30 |" in text and "| RGB-DEM | 100 | 75 | 50 |" in text


def test_marks_of_the_estimates_are_drawn_and_nothing_is_made_up_without_them(tmp_path):
    paths, wanted = Paths(str(tmp_path), "small"), share_experiment()
    put_all(paths, wanted, config())
    grid = collate(wanted, config(), paths)
    none = estimates(wanted, config(), paths)
    assert none.empty
    without = curves(grid, wanted, none)
    assert without == curves(grid, wanted)
    write_estimates(paths, "rgb-dem/decur/common-100/seed-0", alignment=0.7, canonical=0.5)
    assert curves(grid, wanted, estimates(wanted, config(), paths)) != without


def test_a_scale_without_results_says_so(tmp_path):
    paths, wanted = Paths(str(tmp_path), "small"), share_experiment()
    grid, found = collate(wanted, config(), paths), estimates(wanted, config(), paths)
    frame = compare(grid, found, wanted)
    assert set(frame["source"]) <= {PAPER}
    assert "NOT comparable" in as_markdown(share_page(frame, found, wanted, config()))


def test_a_damaged_file_of_estimates_is_named(tmp_path):
    paths, wanted = Paths(str(tmp_path), "small"), share_experiment()
    path = write_estimates(paths, "rgb-dem/decur/common-100/seed-0", alignment=0.7)
    path.write_text("nothing")
    with pytest.raises(DecurError, match=r"share\.csv: "):
        estimates(wanted, config(), paths)


def test_a_scenario_whose_default_is_all_common_is_estimated_from_that_run():
    tree = config().model_dump(mode="json")
    tree["scenarios"]["rgb-dem"]["pretrain"]["dim_common"] = 64
    wanted = Experiment.model_validate(
        share_experiment().model_dump() | {"panels": [GEONRW | {"paper": None}]}
    )
    runs = [run for x, run in share_runs(wanted, parse_config(tree)) if x == 100]
    assert str(runs[0]) == "rgb-dem/decur/default/seed-0"
