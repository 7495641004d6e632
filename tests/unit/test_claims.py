from pathlib import Path

import numpy as np
import pytest
import yaml

from decur.artifacts.paths import Cell, Paths, Run
from decur.config import Config, load_config
from decur.config.experiments import (
    Experiment,
    chosen_experiments,
    explain_runs,
    load_experiments,
    transfer_runs,
)
from decur.errors import DecurError
from decur.tables.claims import claims_page, collate, pairs, sources
from decur.tables.latex import as_latex
from decur.tables.markdown import as_markdown
from decur.tables.run import outputs, write_experiment
from tests.support.latex import check_tabulars
from tests.support.tables import (
    BARLOW,
    BIGEARTHNET,
    CLIP,
    DECUR,
    GEONRW,
    RANDOM,
    config,
    put,
    put_alignment,
)

HOME = Path(__file__).parents[2]
TABLE = {
    "title": "Transfer",
    "caption": "mAP.",
    "rows": [RANDOM, CLIP, BARLOW, DECUR],
    "panels": [BIGEARTHNET],
}
ALIGNED = {
    "title": "Alignment",
    "caption": "Loss.",
    "kind": "alignment",
    "rows": [BARLOW, DECUR],
    "panels": [BIGEARTHNET, GEONRW],
}
BETTER = {"of": "table", "higher": "DeCUR", "lower": ["Barlow Twins"], "protocols": ["linear"]}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "results"), "small")


def declared(
    tmp_path: Path, *comparisons: dict[str, object], aligned: dict[str, object] = ALIGNED
) -> dict[str, Experiment]:
    """A table, an alignment histogram, and two claims: ours, and one that nothing measures."""
    claims = {
        "ours": {"text": "DeCUR is better.", "comparisons": list(comparisons)},
        "theirs": {"text": "Nothing measures this.", "section": "7"},
    }
    tree = {
        "table": TABLE,
        "aligned": aligned,
        "claims": {"title": "Claims", "caption": "All.", "kind": "claims", "claims": claims},
    }
    file = tmp_path / "experiments.yaml"
    file.write_text(yaml.safe_dump(tree))
    return load_experiments(file)


def chosen(
    tmp_path: Path,
    *comparisons: dict[str, object],
    names: tuple[str, ...] = ("table", "aligned"),
    aligned: dict[str, object] = ALIGNED,
) -> tuple[Experiment, Config]:
    settings = config(experiments=[*names, "claims"])
    return chosen_experiments(declared(tmp_path, *comparisons, aligned=aligned), settings)[
        "claims"
    ], settings


def put_scores(paths: Paths, method: str, *scores: float, protocol: str = "linear") -> None:
    cell = str(Cell("bigearthnet", "sar+optical", protocol, 1))
    for seed, score in enumerate(scores):
        put(paths, str(Run("sar-optical", method, seed=seed)), cell, map_micro=score)


def verdict_of(claims: Experiment, settings: Config, paths: Paths) -> str:
    frame = collate(claims, settings, paths)
    return str(frame[frame["claim"] == "ours"]["verdict"].iloc[0])


def test_a_claim_is_judged_by_seeds_in_pairs(tmp_path, paths):
    claims, settings = chosen(tmp_path, BETTER)
    assert verdict_of(claims, settings, paths) == "not measured"
    put_scores(paths, "decur", 81, 71, 92)
    put_scores(paths, "barlow-twins", 80, 70)
    assert verdict_of(claims, settings, paths) == "not enough seeds"
    put_scores(paths, "barlow-twins", 80, 70, 90.8)
    line = collate(claims, settings, paths).iloc[0]
    assert line["verdict"] == "holds"  # though the seeds differ by far more than the methods
    assert (line["n"], line["wanted"], line["ahead"]) == (3, 3, 3)
    assert line["difference"] == pytest.approx(np.mean([1, 1, 1.2]))
    assert (line["bootstrap_low"], line["bootstrap_high"]) == pytest.approx((1.0, 1.2))
    assert line["paper"] == pytest.approx(79.4 - 78.7)
    put_scores(paths, "barlow-twins", 83, 73, 94.2)
    assert verdict_of(claims, settings, paths) == "does not hold"


def test_only_seeds_that_both_have_are_compared(tmp_path, paths):
    claims, settings = chosen(tmp_path, BETTER)
    put_scores(paths, "decur", 81, 71, 92)
    put_scores(paths, "barlow-twins", 80, 70, 91)
    lost = Run("sar-optical", "decur", seed=0)
    Path(paths.metrics(str(lost), str(Cell("bigearthnet", "sar+optical", "linear", 1)))).unlink()
    line = collate(claims, settings, paths).iloc[0]
    assert (line["n"], line["wanted"], line["difference"]) == (2, 3, 1.0)


def test_every_cell_must_hold(tmp_path, paths):
    claims, settings = chosen(tmp_path, BETTER | {"protocols": None})
    for protocol, lead in (("linear", 1), ("fine-tune", 0)):
        put_scores(paths, "decur", 81, 71.1, 92, protocol=protocol)
        put_scores(paths, "barlow-twins", 81 - lead, 71 - lead, 92.2 - lead, protocol=protocol)
    frame = collate(claims, settings, paths)
    assert frame["protocol"].tolist()[:2] == ["linear", "fine-tune"]
    assert (frame["low"][0] > 0) and (frame["low"][1] < 0 < frame["high"][1])
    assert verdict_of(claims, settings, paths) == "undecided"
    assert "| undecided | 1.000 | 1, 1, 0 |" in as_markdown(claims_page(frame, claims, settings))


def test_what_the_scale_leaves_out_is_not_measured_and_not_asked_for(tmp_path, paths):
    clip = BETTER | {"lower": ["CLIP"]}
    claims, settings = chosen(tmp_path, clip)
    assert not any(pairs(claims, settings).values())
    assert verdict_of(claims, settings, paths) == "not measured"
    claims, settings = chosen(tmp_path, BETTER, names=("aligned",))
    assert sources(claims, settings, paths) == []
    assert verdict_of(claims, settings, paths) == "not measured"


def test_a_claim_of_which_a_row_is_lacking_holds_only_where_it_is_measured(tmp_path, paths):
    claims, settings = chosen(tmp_path, BETTER | {"lower": ["Barlow Twins", "CLIP"]})
    put_scores(paths, "decur", 81, 71, 92)
    put_scores(paths, "barlow-twins", 80, 70, 91)
    assert verdict_of(claims, settings, paths) == "holds where measured"


def test_alignment_losses_are_compared_by_part_of_the_embedding(tmp_path, paths):
    comparison = {"of": "aligned", "higher": "DeCUR, unique", "lower": ["Barlow Twins"]}
    claims, settings = chosen(tmp_path, comparison | {"panels": ["S1+S2"]})
    loss = np.full((2, 64), 0.1)
    for seed in range(3):
        put_alignment(paths, Run("sar-optical", "barlow-twins", seed=seed), loss)
        loss[:, 48:] += 0.25
        put_alignment(paths, Run("sar-optical", "decur", seed=seed), loss)
        loss[:, 48:] -= 0.25
    line = collate(claims, settings, paths).iloc[0]
    assert line["difference"] == pytest.approx(25)
    assert line["verdict"] == "holds"
    assert sources(claims, settings, paths) == sorted(
        paths.explain(str(Run("sar-optical", method, seed=seed)), "alignment")
        for method in ("barlow-twins", "decur")
        for seed in range(3)
    )


def test_the_overlap_of_saliency_is_compared_by_part_too(tmp_path, paths):
    aligned = ALIGNED | {"kind": "saliency"}
    comparison = {"of": "aligned", "higher": "DeCUR, common", "lower": ["DeCUR, unique"]}
    claims, settings = chosen(tmp_path, comparison | {"panels": ["S1+S2"]}, aligned=aligned)
    for seed in range(3):
        path = Path(paths.explain(str(Run("sar-optical", "decur", seed=seed)), "saliency"))
        path.parent.mkdir(parents=True)
        path.write_text("sample,common,unique\n0001,0.5,0.25\n0002,0.7,0.35\n")
    line = collate(claims, settings, paths).iloc[0]
    assert line["difference"] == pytest.approx(30)
    assert line["verdict"] == "holds"


def test_a_part_that_an_explainer_did_not_find_is_named(tmp_path, paths):
    comparison = {"of": "aligned", "higher": "DeCUR, unique", "lower": ["Barlow Twins"]}
    claims, settings = chosen(tmp_path, comparison | {"panels": ["S1+S2"]})
    file = put_alignment(paths, Run("sar-optical", "decur"), np.full((1, 64), 0.5))
    other = Path(paths.explain(str(Run("sar-optical", "barlow-twins")), "alignment"))
    other.parent.mkdir(parents=True)
    other.write_bytes(file.read_bytes())
    with pytest.raises(DecurError, match=r"barlow-twins.*alignment\.csv: has no 'all'"):
        collate(claims, settings, paths)


def test_the_page_says_verdicts_intervals_and_what_nothing_measures(tmp_path, paths):
    claims, settings = chosen(tmp_path, BETTER, BETTER | {"higher": "Rand. Init."})
    put_scores(paths, "decur", 82, 72, 93)
    put_scores(paths, "barlow-twins", 80, 70.5, 91)
    put_scores(paths, "random", 50)
    write_experiment("claims", claims, settings, paths)
    made = outputs("claims", claims, paths)
    assert set(made) == {"csv", "md", "tex", "json"}
    text = Path(made["md"]).read_text()
    assert "| 1 | DeCUR is better. | ours | not enough seeds | – | 1, 1, 0 |" in text
    assert "| 2 | Nothing measures this. | §7 | not measured | – | – |" in text
    assert (
        "| table: DeCUR − Barlow Twins<br>S1+S2, 1 % labels, linear, mAP (micro) | +1.8 |" in text
    )
    assert "| +1.1 to +2.6 | 3 of 3 |  |" in text
    assert "| −30.0 | – | 0 of 1 |  |" in text
    assert "Incomplete: 4 of 6 pairs" in text
    assert "NOT comparable with the paper's" in text
    latex = Path(made["tex"]).read_text()
    assert check_tabulars(latex) == 2
    assert "$-$30.0 & -- & 0 of 1" in latex
    first = {path: Path(path).read_bytes() for path in made.values()}
    write_experiment("claims", claims, settings, paths)
    assert first == {path: Path(path).read_bytes() for path in made.values()}


def test_a_page_without_any_result_is_legible(tmp_path, paths):
    claims, settings = chosen(tmp_path, BETTER)
    page = claims_page(collate(claims, settings, paths), claims, settings)
    assert "| 0 of 0 |" in as_markdown(page)
    assert check_tabulars(as_latex(page)) == 2


@pytest.mark.parametrize(
    ("higher", "lower", "paper"), [("CLIP", "DeCUR", "−2.0"), ("DeCUR", "CLIP", "+2.0")]
)
def test_the_papers_suspect_numbers_are_marked(tmp_path, paths, higher, lower, paper):
    claims, settings = chosen(tmp_path, BETTER | {"higher": higher, "lower": [lower]})
    settings = settings.model_copy(update={"methods": (*settings.methods, "clip")})
    text = as_markdown(claims_page(collate(claims, settings, paths), claims, settings))
    assert f"{paper}<sup>a</sup> |" in text
    assert "\n<sup>a</sup> One of the paper's two numbers is suspect" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"of": "tabel"}, "there is no experiment 'tabel'"),
        ({"higher": "DeCURR"}, "table has no row 'DeCURR'"),
        ({"lower": ["Barlow"]}, "table has no row 'Barlow'"),
        ({"panels": ["S2"]}, "table has no panel 'S2'"),
        ({"of": "aligned"}, "aligned has no row 'DeCUR'"),
        ({"hihger": "DeCUR"}, "hihger"),
    ],
)
def test_a_claim_about_what_is_not_declared_is_one_line(tmp_path, change, message):
    with pytest.raises(DecurError, match=message) as caught:
        declared(tmp_path, BETTER | change)
    assert "experiments.yaml: claims" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["claims", "table"])
def test_an_experiment_has_what_its_kind_shows(kind):
    tree = TABLE | {"kind": kind, "claims": {"a": {"text": "b"}}}
    with pytest.raises(ValueError, match=f"a {kind} has"):
        Experiment.model_validate(tree)


@pytest.mark.parametrize("scale", ["demo", "mini", "paper"])
def test_the_claims_ask_for_nothing_that_other_experiments_do_not(scale):
    settings = load_config(HOME / "config" / f"{scale}.yaml")
    experiments = chosen_experiments(load_experiments(HOME / "config/experiments.yaml"), settings)
    paths = Paths("results", scale)
    claims = experiments.pop("claims")
    there = {
        paths.metrics(str(run), str(cell))
        for run, cells in transfer_runs(experiments.values(), settings).items()
        for cell in cells
    }
    explained = explain_runs(experiments.values(), settings)
    there |= {paths.explain(str(run), kind) for run, kind in explained}
    asked = set(sources(claims, settings, paths))
    assert asked and asked <= there
    assert all(
        pair.higher.entry.runs and pair.lower.entry.runs
        for p in pairs(claims, settings).values()
        for pair in p
    )


def test_mini_has_three_seeds_for_the_shape_of_figure_3a_and_of_table_4():
    settings = load_config(HOME / "config/mini.yaml")
    experiments = chosen_experiments(load_experiments(HOME / "config/experiments.yaml"), settings)
    compared = pairs(experiments["claims"], settings) | pairs(
        experiments["factor-claims"], settings
    )
    for name in ("loss-terms", "common-share", "misaligned", "unique-factor"):
        assert compared[name]
        assert all(len(p.lower.entry.runs) == len(p.higher.entry.runs) == 3 for p in compared[name])
