"""What the explainers found, collated: numbers, pages, figures."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from decur.artifacts.paths import Paths, Run
from decur.config import EXPLAINERS
from decur.config.experiments import Experiment, explain_runs
from decur.errors import DecurError
from decur.tables.explained.alignment import bins
from decur.tables.explained.gradcam import heat
from decur.tables.explained.products import explained
from decur.tables.explained.spectral import beside_paper, mean_lift, rank_correlation
from decur.tables.explained.tsne import mixed
from decur.tables.paper import band_saliency, paper_numbers
from decur.tables.run import outputs, sources, write_experiment
from tests.support.tables import BARLOW, BIGEARTHNET, DECUR, GEONRW, config, experiment, image

DIMS = {"common": 6, "unique": 2}
BANDS = ["B1", "B2", "B8", "B10", "B11"]
NUMBERS = {"alignment": ["loss"], "spectral": ["attribution"], "gradcam": ["y", "x", "value"]}
EXPERIMENTS = {
    kind: experiment(kind=kind, rows=[BARLOW, DECUR], panels=[BIGEARTHNET, GEONRW])
    for kind in EXPLAINERS
}
SAR = Run("sar-optical", "decur")

KINDS = [kind for kind in EXPLAINERS if kind != "share"]
"""The share stands beside a grid of transfers: see test_share."""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path), "small")


def put(paths: Paths, run: Run, kind: str, frame: pd.DataFrame, **facts: float) -> Path:
    path = Path(paths.explain(str(run), kind))
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    path.with_suffix(".json").write_text(json.dumps({"facts": facts}))
    return path


def alignment(loss: np.ndarray, parts: dict[str, int]) -> pd.DataFrame:
    """`loss` is `(batches, dimensions)`."""
    part = np.repeat(list(parts), list(parts.values()))
    batches = enumerate(loss)
    lines = [{"batch": b, "dimension": range(len(v)), "part": part, "loss": v} for b, v in batches]
    return pd.concat([pd.DataFrame(line) for line in lines])


def made_up(kind: str, run: Run) -> pd.DataFrame:
    """What an explainer might have found of a run."""
    rng = np.random.default_rng(0)
    parts = DIMS if run.method == "decur" else {"all": 8}
    dims = np.repeat(list(parts), list(parts.values()))
    modalities = ["sar", "optical"] if run.scenario == "sar-optical" else ["rgb", "dem"]
    if kind == "alignment":
        return alignment(rng.uniform(0, 1.2, (3, 8)), parts)
    if kind == "saliency":
        columns = [*parts, f"{modalities[0]} {next(iter(parts))} on unique1"]
        frame = pd.DataFrame({name: rng.uniform(size=9) for name in columns})
        return frame.assign(sample=[f"{i:04d}" for i in range(9)])
    lines = []
    for modality in modalities:
        if kind == "tsne":
            places = {"x": rng.normal(size=8), "y": rng.normal(size=8)}
            fixed = {"batch": 0, "modality": modality, "dimension": range(8), "part": dims}
            lines.append(pd.DataFrame({**fixed, **places}))
        for part in parts:
            place = {"sample": "0007", "modality": modality, "part": part}
            if kind == "gradcam":
                cells = [{**place, "y": y, "x": x} for y in range(2) for x in range(3)]
                lines.append(pd.DataFrame(cells).assign(value=rng.uniform(size=6)))
            if kind == "spectral":
                own = {"band": BANDS, "attribution": rng.uniform(size=5)}
                own |= {"change_common": range(5), "lift_common": [np.nan, 2, 2, 2, 2]}
                lines.append(pd.DataFrame({"modality": modality, "part": part, **own}))
    return pd.concat(lines)


def put_all(paths: Paths, wanted: Experiment) -> None:
    for run, kind in explain_runs([wanted], config()):
        put(paths, run, kind, made_up(kind, run), completeness_error=0.004)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sources_are_the_explainers_products_and_for_maps_the_shards(kind, paths):
    wanted = experiment(kind=kind, rows=[DECUR], panels=[BIGEARTHNET], seeds=1)
    expected = [paths.explain(str(SAR), kind)]
    if kind == "gradcam":
        expected.append(paths.card("ssl4eo-s12"))
    assert sources(wanted, config(), paths) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_legible_without_results_shows_them_and_is_the_same_each_time(kind, paths):
    wanted, made = EXPERIMENTS[kind], outputs(kind, EXPERIMENTS[kind], paths)
    write_experiment(kind, wanted, config(), paths)
    assert "yet." in Path(made["md"]).read_text()
    assert (image(made["figure"]) < 128).sum() > 500
    empty = Path(made["figure"]).read_bytes()
    put_all(paths, wanted)
    write_experiment(kind, wanted, config(), paths)
    first = {path: Path(path).read_bytes() for path in made.values()}
    assert min(image(made["figure"]).shape) > 500 and first[made["figure"]] != empty
    write_experiment(kind, wanted, config(), paths)
    assert first == {path: Path(path).read_bytes() for path in made.values()}
    frame = pd.read_csv(made["csv"])
    assert list(frame)[:2] == ["scenario", "row"]
    assert set(frame["row"]) == {"Barlow Twins", "DeCUR"}
    text = Path(made["md"]).read_text()
    assert "SAR-optical" in text and "RGB-DEM" in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", ["", "batch,dimension,part,loss\n", "a,b\n1,2\n"])
def test_a_damaged_product_is_one_line_that_names_it(kind, content, paths):
    path = put(paths, SAR, kind, made_up(kind, SAR))
    path.write_text(content)
    with pytest.raises(DecurError) as caught:
        write_experiment(kind, EXPERIMENTS[kind], config(), paths)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_single_number_that_is_none_is_not_averaged_away(paths):
    loss = np.full((2, 8), 0.5)
    loss[0, 3] = np.nan
    path = put(paths, SAR, "alignment", alignment(loss, DIMS))
    with pytest.raises(DecurError, match=str(path)):
        explained(EXPERIMENTS["alignment"], config(), paths, ["loss"])


def test_a_product_without_its_record_is_not_done_yet(paths):
    path = put(paths, SAR, "alignment", alignment(np.full((1, 8), 0.5), DIMS))
    path.with_suffix(".json").unlink()
    assert explained(EXPERIMENTS["alignment"], config(), paths, ["loss"]) == []


def test_the_first_seed_found_is_shown(paths):
    for seed, value in ((2, 0.9), (1, 0.5)):
        frame = alignment(np.full((1, 8), value), DIMS)
        put(paths, Run("sar-optical", "decur", seed=seed), "alignment", frame)
    (found,) = explained(EXPERIMENTS["alignment"], config(), paths, ["loss"])
    assert found.run.seed == 1 and found.title == "SAR-optical, DeCUR"
    assert found.parts == ["common", "unique"]


def test_the_histogram_has_mean_and_range_of_the_batches_and_counts_all_above_one_last(paths):
    loss = np.full((2, 8), 0.05)
    loss[:, 6:] = [[1.6], [1.0]]
    loss[1, :3] = 0.35
    put(paths, SAR, "alignment", alignment(loss, DIMS))
    put(paths, Run("sar-optical", "barlow-twins"), "alignment", alignment(loss, {"all": 8}))
    wanted = EXPERIMENTS["alignment"]
    counts = bins(explained(wanted, config(), paths, ["loss"])).set_index(["row", "part", "low"])
    common, unique = (counts.loc[("DeCUR", part)] for part in DIMS)
    assert common["share"].round(2).tolist() == [56.25, 0, 0, 18.75, *[0] * 6]
    assert common["share_min"].tolist() == [37.5, *[0] * 9]
    assert common["share_max"].tolist() == [75, 0, 0, 37.5, *[0] * 6]
    assert unique["share"].tolist() == [*[0] * 9, 25]
    assert counts.groupby("row")["share"].sum().tolist() == pytest.approx([100, 100])
    write_experiment("x", wanted, config(), paths)
    text = Path(paths.table("x", "md")).read_text()
    assert "| SAR-optical | DeCUR | unique | 2 | 1.300 | 1.000 to 1.600 (2) |" in text


def test_planes_say_how_far_the_modalities_mix():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 200))
    lines = {"modality": ["a", "b"] * 100, "x": x, "y": y}
    assert mixed(pd.DataFrame(lines)).mean() == pytest.approx(50, abs=5)
    apart = {**lines, "x": x + 1000 * (np.arange(200) % 2)}
    assert mixed(pd.DataFrame(apart)).max() == 0
    pairs = {"modality": ["a", "b"] * 2, "x": [0, 0, 9, 9], "y": [0.0, 0, 0, 0]}
    assert mixed(pd.DataFrame(pairs)).tolist() == pytest.approx([200 / 3] * 4)


def test_a_map_is_put_together_from_its_cells(paths):
    frame = made_up("gradcam", SAR)
    put(paths, SAR, "gradcam", frame.sample(frac=1, random_state=0))
    (found,) = explained(EXPERIMENTS["gradcam"], config(), paths, NUMBERS["gradcam"])
    expected = frame[(frame["modality"] == "optical") & (frame["part"] == "unique")]["value"]
    ours = heat(found, "0007", "optical", "unique")
    np.testing.assert_allclose(ours, expected.to_numpy().reshape(2, 3))


def test_the_papers_bands_stand_beside_those_of_the_same_name(paths):
    table = pd.read_csv(paper_numbers())
    raw = table[table["table"] == "Figure 5 right (raw)"]
    paper = band_saliency("SAR-optical")
    assert len(paper) == len(raw) == 26 and band_saliency("RGB-DEM") == {}
    assert max(paper.values()) == paper["optical", "unique", "B11"] == 2.9186
    put(paths, SAR, "spectral", made_up("spectral", SAR))
    (found,) = explained(EXPERIMENTS["spectral"], config(), paths, NUMBERS["spectral"])
    lines = beside_paper(found).set_index(["modality", "part", "band"])
    assert lines.loc[("optical", "common", "B8"), "paper"] == paper["optical", "common", "B8"]
    assert lines.loc[("optical", "unique", "B11"), "paper_relative"] == 1
    assert lines.loc["sar"]["paper"].isna().all()
    assert lines.groupby("modality")["relative"].max().tolist() == [1, 1]


def test_ranks_are_compared_of_four_bands_or_more():
    lines = pd.DataFrame({"attribution": [1.0, 2, 4, 8], "unique2": [0.1, 0.2, 0.3, 9]})
    assert rank_correlation(lines, "unique2") == pytest.approx(1)
    assert rank_correlation(lines.assign(unique2=-lines["unique2"]), "unique2") == pytest.approx(-1)
    assert math.isnan(rank_correlation(lines[:3], "unique2"))


def test_bands_are_compared_with_what_a_factor_changes(paths):
    put(paths, SAR, "spectral", made_up("spectral", SAR))
    write_experiment("x", EXPERIMENTS["spectral"], config(), paths)
    text = Path(paths.table("x", "md")).read_text()
    (line,) = [s for s in text.splitlines() if "| optical | unique | common factor |" in s]
    assert line.endswith(" | 2.000 |")


def test_a_band_lifts_as_much_as_it_counts():
    lines = pd.DataFrame({"attribution": [3.0, 1, 0, 5], "lift_common": [1.0, 2, 80, np.nan]})
    assert mean_lift(lines, "common") == 1.25
    assert math.isnan(mean_lift(lines[3:], "common"))


def test_known_factors_are_told_where_there_are_any(paths):
    put_all(paths, EXPERIMENTS["saliency"])
    write_experiment("x", EXPERIMENTS["saliency"], config(), paths)
    text = Path(paths.table("x", "md")).read_text()
    assert "Against the known factors" in text
    assert "| SAR-optical | DeCUR | SAR | common | unique factor |" in text
    plain = made_up("saliency", SAR)[["sample", "common", "unique"]]
    for run, kind in explain_runs([EXPERIMENTS["saliency"]], config()):
        put(paths, run, kind, plain)
    write_experiment("x", EXPERIMENTS["saliency"], config(), paths)
    assert "known factors" not in Path(paths.table("x", "md")).read_text()
