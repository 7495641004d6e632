import copy
import json
from pathlib import Path

import pytest
import yaml

from decur.artifacts.paths import Cell, Run
from decur.config import (
    EXPLAINERS,
    Config,
    canonical_variant,
    check_recipe,
    load_config,
    parse_config,
    pretrain_settings,
    transfer_settings,
)
from decur.config.experiments import (
    Experiment,
    chosen_experiments,
    entries,
    explain_runs,
    load_experiments,
    share_runs,
    transfer_runs,
)
from decur.errors import DecurError

CONFIG = Path(__file__).parents[2] / "config"
SCALES = ("demo", "mini", "samples", "paper")


@pytest.fixture
def tree():
    return yaml.safe_load((CONFIG / "demo.yaml").read_text())


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_is_valid_and_its_experiments_are_declared(scale):
    config = load_config(CONFIG / f"{scale}.yaml")
    assert config.scale == scale
    chosen = chosen_experiments(load_experiments(CONFIG / "experiments.yaml"), config)
    for run, cells in transfer_runs(chosen.values(), config).items():
        assert transfer_settings(config, run, cells).run == str(run)


OWN = {
    "title": "Mine",
    "caption": "All.",
    "rows": [{"label": "DeCUR", "method": "decur"}],
    "panels": [
        {
            "label": "all",
            "scenario": "rgb-dem",
            "dataset": "geonrw",
            "modalities": "rgb+dem",
            "protocols": ["linear"],
            "metrics": ["miou"],
        }
    ],
}


def with_own(tree, name="mine", row=(), panel=()):
    one = OWN | {"rows": [OWN["rows"][0] | dict(row)], "panels": [OWN["panels"][0] | dict(panel)]}
    return parse_config(tree | {"experiments": ["table2"], "own_experiments": {name: one}})


def test_a_config_declares_experiments_of_its_own_beside_those_it_names(tree):
    config = with_own(tree)
    chosen = chosen_experiments(load_experiments(CONFIG / "experiments.yaml"), config)
    assert list(chosen) == ["table2", "mine"]
    assert transfer_runs([chosen["mine"]], config)
    assert parse_config(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "table1"}, "'table1' is already declared"),
        ({"panel": {"scenario": "rgb-nothing"}}, "mine: there is no scenario 'rgb-nothing'"),
        ({"panel": {"dataset": "nothing"}}, "mine: there is no dataset 'nothing'"),
        ({"panel": {"modalities": "rgb+x"}}, "mine: rgb-dem has no modality 'x'"),
        ({"row": {"method": "vicreg"}}, "method 'vicreg' is not among the config's methods"),
        ({"panel": {"modalities": "rgb+rgb"}}, "mine: modalities .*'rgb' twice"),
        ({"panel": {"labels": [101]}}, r"mine: panels\.0\.labels\.0: .*100"),
        ({"panel": {"labels": [0]}}, r"mine: panels\.0\.labels\.0: "),
        ({"panel": {"metrics": []}}, r"mine: panels\.0\.metrics: "),
        ({"row": {"variant": "comon-50"}}, "'DeCUR'.*'comon-50'.*common-<percent>"),
        ({"row": {"colour": 1}}, "own_experiments: mine: unknown key 'rows.0.colour'"),
    ],
)
def test_a_wrong_own_experiment_is_one_line(tree, changes, message):
    with pytest.raises(DecurError, match=message):
        config = with_own(tree, **changes)
        chosen = chosen_experiments(load_experiments(CONFIG / "experiments.yaml"), config)
        transfer_runs(chosen.values(), config)


def test_known_factors_are_asked_of_scenes_alone(tree):
    tree["datasets"]["geonrw"] = {"pixels": 32}  # from its archives
    config = parse_config(tree)
    with pytest.raises(DecurError, match=r"'geonrw/rgb/probe/.*datasets\.geonrw"):
        check_recipe(config, Cell("geonrw", "rgb", "probe"))
    check_recipe(config, Cell("nyuv2", "rgb", "probe"))


def test_a_scenario_may_change_an_augmentation_preset(tree):
    from decur.imagery.augment import PRESETS
    from decur.training.views import augmentations

    changed = {"like": "measured", "vflip": 0.5, "crop_scale": [0.5, 1]}
    tree["scenarios"]["rgb-dem"]["modalities"] = {"rgb": "image", "dem": changed}
    run = Run("rgb-dem", "decur")
    image, measured = augmentations(pretrain_settings(parse_config(tree), run))
    assert image.gray == PRESETS["image"].gray > 0 == measured.gray
    assert (measured.vflip, measured.crop_scale, measured.size) == (0.5, (0.5, 1), 32)
    tree["scenarios"]["rgb-dem"]["modalities"]["dem"] = "heat"
    with pytest.raises(DecurError, match=r"rgb-dem\.modalities\.dem: no augmentation 'heat'"):
        augmentations(pretrain_settings(parse_config(tree), run))


def test_the_committed_schema_is_made_from_the_model():
    assert json.loads((CONFIG / "schema.json").read_text()) == Config.model_json_schema()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("colour", 1, "unknown key 'colour'"),
        ("scenarios.rgb-dem.pretrain.lerning_rate", 1, "lerning_rate"),
        ("scenarios.rgb-dem.pretrain.epochs", "many", "pretrain.epochs.*number.*'many'"),
        ("scenarios.rgb-dem.pretrain.dim_common", 300, r"dim_common \(300\) must not exceed dim"),
        ("scenarios.rgb-dem.pretrain.dataset", "imagenet", "no dataset 'imagenet'"),
        ("scenarios.rgb-dem.modalities", {"rgb": "rgb"}, "exactly two"),
        ("datasets.geonrw.scenes", None, "if and only if source is 'scenes'"),
        ("transfer.geonrw.linear.steps", 5, "exactly one of 'epochs' and 'steps'"),
        ("scenarios.rgb-dem.pretrain.splits", [], r"scenarios\.rgb-dem\.pretrain\.splits"),
        ("transfer.geonrw.task", "classification", r"transfer\.geonrw\.task: .*segmentation"),
        ("transfer.bigearthnet.task", "segmentation", r"transfer\.bigearthnet\.task"),
        ("seeds", [-1], "seeds"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(tree, path, value, message):
    *parents, key = path.split(".")
    broken = copy.deepcopy(tree)
    node = broken
    for parent in parents:
        node = node[parent]
    node[key] = value
    with pytest.raises(DecurError, match=message) as caught:
        parse_config(broken, "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


def test_unreadable_config_files_are_named(tmp_path):
    with pytest.raises(DecurError, match=r"gone\.yaml: no such"):
        load_config(tmp_path / "gone.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(DecurError, match=r"bad\.yaml: not valid YAML"):
        load_config(tmp_path / "bad.yaml")


def test_variants_change_what_they_say(tree):
    config = parse_config(tree)

    def settings(variant):
        return pretrain_settings(config, Run("rgb-dem", "decur", variant))

    assert (settings("default").dim, settings("default").dim_common) == (128, 96)
    assert settings("common-50").dim_common == 64
    assert (settings("dim-512").dim, settings("dim-512").dim_common) == (512, 384)
    assert settings("dim-512_common-25").dim_common == 128
    wide = settings("dim-512_hidden-64_common-25")
    assert (wide.dim, wide.dim_common, wide.projector_hidden) == (512, 128, 64)
    assert "projector_hidden" in wide.model_dump_json()
    assert "projector_hidden" not in settings("dim-512").model_dump_json()  # as it ever was
    assert settings("no-intra").intra is False
    assert settings("no-projector").projector_layers == 0
    assert settings("data-terramind").dataset == "terramind"
    official = settings("official")
    assert (official.weighting, official.projector) == ("official", "shared")
    for wrong in ("common-150", "dim-x", "dim-0", "hidden-0", "dim-²", "nonsense"):
        with pytest.raises(DecurError, match=f"cannot read '{wrong}'"):
            settings(wrong)


def test_a_variant_that_is_the_default_is_no_run_of_its_own(tree):
    config = parse_config(tree)
    assert canonical_variant(config, "rgb-dem", "common-75") == "default"
    assert canonical_variant(config, "rgb-dem", "dim-128_common-50") == "common-50"


def test_divided_widths_keep_the_names_of_variants(tree):
    """The demo's 128 dimensions, 96 of them common, divided by 16."""
    tree["scenarios"]["rgb-dem"]["pretrain"]["dim_divisor"] = 16
    config = parse_config(tree)
    for variant, dims, common, hidden in (
        ("default", 8, 6, None),
        ("dim-512_common-50", 32, 16, None),
        ("dim-512_hidden-64", 32, 24, 4),
        ("dim-8_hidden-8", 1, 1, 1),
    ):
        assert canonical_variant(config, "rgb-dem", variant) == variant
        found = pretrain_settings(config, Run("rgb-dem", "decur", variant))
        assert (found.dim, found.dim_common, found.projector_hidden) == (dims, common, hidden)
        assert "dim_divisor" not in found.model_dump()


RGB_DEPTH = {"arch": "mit_b2", "imagenet": "b2.pth"}
LARGE = {"arch_large": "mit_b5", "imagenet_large": "b5.pth"}


def config_with(tree, **changes):
    tree["scenarios"]["rgb-depth"]["pretrain"] |= changes
    return parse_config(tree)


@pytest.mark.parametrize(
    ("method", "variant", "changes", "arch", "file"),
    [
        ("decur", "default", RGB_DEPTH | LARGE, "mit_b2", None),
        ("decur", "from-imagenet", RGB_DEPTH | LARGE, "mit_b2", "b2.pth"),
        ("decur", "large", RGB_DEPTH | LARGE, "mit_b5", None),
        ("decur", "large_from-imagenet", RGB_DEPTH | LARGE, "mit_b5", "b5.pth"),
        ("decur", "from-imagenet_large", RGB_DEPTH | LARGE, "mit_b5", "b5.pth"),
        ("decur", "large_from-imagenet", RGB_DEPTH, "mit_b2", "b2.pth"),
        ("decur", "large_from-imagenet", LARGE, "mit_b5", "b5.pth"),
        ("imagenet", "default", RGB_DEPTH | LARGE, "mit_b2", "b2.pth"),
        ("imagenet", "large", RGB_DEPTH | LARGE, "mit_b5", "b5.pth"),
        ("imagenet", "large", LARGE, "mit_b5", "b5.pth"),
    ],
)
def test_a_run_reads_the_imagenet_file_that_it_starts_from_and_no_other(
    tree, method, variant, changes, arch, file
):
    config = config_with(tree, **changes)
    found = pretrain_settings(config, Run("rgb-depth", method, variant))
    assert (found.arch, found.imagenet) == (arch, file)
    assert (found.arch_large, found.imagenet_large) == (None, None)


@pytest.mark.parametrize(
    ("method", "variant", "changes"),
    [
        ("imagenet", "default", {}),
        ("imagenet", "default", LARGE),
        ("decur", "from-imagenet", {}),
        ("decur", "from-imagenet_large", RGB_DEPTH | {"arch_large": "mit_b5"}),
    ],
)
def test_a_start_from_imagenet_without_a_file_is_named(tree, method, variant, changes):
    config = config_with(tree, **changes)
    with pytest.raises(
        DecurError, match=rf"^scenarios\.rgb-depth\.pretrain: .*'{method}'.*'{variant}'.*add `im"
    ):
        pretrain_settings(config, Run("rgb-depth", method, variant))


def test_large_is_the_default_where_there_is_no_larger_backbone(tree):
    config = config_with(tree, **RGB_DEPTH)
    assert canonical_variant(config, "rgb-depth", "large") == "default"
    assert canonical_variant(config, "rgb-depth", "large_from-imagenet") == "from-imagenet"
    config = config_with(tree, **LARGE)
    assert canonical_variant(config, "rgb-depth", "large") == "large"
    config = config_with(tree, imagenet=None)
    assert canonical_variant(config, "rgb-depth", "from-imagenet_large") == "from-imagenet_large"


def test_rows_that_start_from_imagenet_have_runs_where_there_is_a_file(tree):
    tree["methods"] += ["imagenet"]
    rows = [
        {"label": "I", "method": "imagenet"},
        {"label": "I large", "method": "imagenet", "variant": "large"},
        {"label": "D", "method": "decur", "variant": "from-imagenet"},
        {"label": "D large", "method": "decur", "variant": "from-imagenet_large"},
    ]
    tree["scenarios"]["rgb-depth"]["pretrain"] |= RGB_DEPTH
    panels = [
        {
            "label": scenario,
            "scenario": scenario,
            "dataset": "nyuv2",
            "modalities": "rgb",
            "protocols": ["fine-tune"],
            "metrics": ["miou"],
        }
        for scenario in ("rgb-dem", "rgb-depth")
    ]
    experiment = Experiment(title="T", caption="C", rows=rows, panels=panels)

    def runs():
        return {
            (entry.row.label, entry.panel.label): [str(run) for run in entry.runs]
            for entry in entries(experiment, parse_config(tree))
        }

    without_larger = runs()
    assert [without_larger[row["label"], "rgb-dem"] for row in rows] == [[]] * 4
    assert without_larger["I", "rgb-depth"] == ["rgb-depth/imagenet/default/seed-0"]
    assert without_larger["I large", "rgb-depth"] == without_larger["I", "rgb-depth"]
    assert without_larger["D large", "rgb-depth"] == ["rgb-depth/decur/from-imagenet/seed-0"]
    tree["scenarios"]["rgb-depth"]["pretrain"]["arch_large"] = "mit_b5"
    assert (runs()["I large", "rgb-depth"], runs()["D large", "rgb-depth"]) == ([], [])
    assert runs()["D", "rgb-depth"] == without_larger["D", "rgb-depth"]


def test_experiments_share_runs():
    config = load_config(CONFIG / "mini.yaml")
    experiments = load_experiments(CONFIG / "experiments.yaml")
    runs = transfer_runs(experiments.values(), config)
    alone = sum(len(transfer_runs([e], config)) for e in experiments.values())
    assert len(runs) < alone
    default = Run("rgb-dem", "decur")
    assert Cell("geonrw", "rgb+dem", "fine-tune", 1) in runs[default]
    assert Cell("geonrw", "dem", "probe") in runs[default]
    explained = explain_runs(experiments.values(), config)
    assert {kind for _, kind in explained} == EXPLAINERS.keys()
    assert {run for run, _ in explained} <= set(runs)


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_the_estimate_of_the_share_asks_for_no_run_of_its_own(scale):
    config = load_config(CONFIG / f"{scale}.yaml")
    experiments = load_experiments(CONFIG / "experiments.yaml")
    others = transfer_runs([experiments[name] for name in ("fig3a", "table4")], config)
    wanted = experiments["share-estimate"]
    estimated = share_runs(wanted, config)
    all_common = [run for x, run in estimated if x == 100]
    assert len(all_common) == 2 * len(config.seeds)
    assert {run.variant for run in all_common} == {"common-100"}
    assert {run for _, run in estimated} | set(transfer_runs([wanted], config)) <= set(others)


def test_rows_of_methods_that_a_scale_leaves_out_have_no_runs(tree):
    config = parse_config(tree)
    table1 = load_experiments(CONFIG / "experiments.yaml")["table1"]
    by_label = {entry.row.label: entry.runs for entry in entries(table1, config)}
    assert by_label["CLIP"] == ()
    assert by_label["DeCUR"] == (Run("sar-optical", "decur", "default", 0),)


def test_a_damaged_experiments_file_is_named(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text("table9: {title: T, caption: C, rows: [], panels: [], colour: red}")
    with pytest.raises(DecurError, match=r"e\.yaml: table9: unknown key 'colour'"):
        load_experiments(path)


@pytest.mark.parametrize("text", ["a/b/c", "a/b/c/d", "a/b/c/seed-x", "a/b/c/seed-²", "a/b/c/7"])
def test_identities_that_are_none_are_refused(text):
    with pytest.raises(DecurError, match="expected <scenario>/<method>"):
        Run.parse(text)


def test_identities_survive_text():
    run = Run("rgb-dem", "decur", "dim-512_common-75", 3)
    assert Run.parse(str(run)) == run
    cell = Cell("geonrw", "rgb+dem", "linear", 0.5)
    assert Cell.parse(str(cell)) == cell
