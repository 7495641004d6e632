"""Wrong names in a configuration, and keys given twice, are found when it is read."""

import subprocess
import sys
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from decur import datasets
from decur.artifacts.paths import Run
from decur.config import EXPLAINERS, Transfer, load_config, parse_config
from decur.config.augmentations import PRESETS
from decur.config.datasets import DATASETS
from decur.config.experiments import (
    check_cells,
    chosen_experiments,
    load_experiments,
    pretrain_runs,
)
from decur.config.protocols import PROTOCOLS
from decur.config.yaml_file import parse_yaml, read_yaml
from decur.errors import DecurError

HOME = Path(__file__).parents[2]
TINY = HOME / "tests" / "workflow" / "tiny.yaml"
EXPERIMENTS = load_experiments(HOME / "config" / "experiments.yaml")
PANEL = {
    "label": "p",
    "scenario": "rgb-dem",
    "dataset": "geonrw",
    "modalities": "rgb+dem",
    "protocols": ["linear"],
    "metrics": ["miou"],
}
OWN = {"title": "T", "caption": "C", "rows": [{"label": "D", "method": "decur"}], "panels": [PANEL]}
RECIPES = {key: {"optimizer": "sgd", "lr": 1, "epochs": 1} for key in ("linear", "fine_tune")}
FOLDERS = {
    "modalities": {
        "photo": {"folder": "photo", "bands": ["r"]},
        "heat": {"folder": "heat", "bands": ["t"]},
    }
}


def plan(tree):
    """What the workflow does with a configuration before anything runs."""
    config = parse_config(tree, "my.yaml")
    chosen = chosen_experiments(EXPERIMENTS, config)
    check_cells(chosen, config)
    return pretrain_runs([*chosen.values()], config)


def edited(key, value):
    tree = yaml.safe_load(TINY.read_text())
    *above, last = key.split("/")
    node = tree
    for part in above:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    node[last] = value
    return tree


def test_the_lists_of_names_are_those_of_what_they_name():
    from decur.imagery.augment import PRESETS as MADE

    assert set(PRESETS) == MADE.keys()
    for name, known in DATASETS.items():
        dataset = datasets.load(name).DATASET
        assert dataset.name == name
        assert known.modalities == {m.name: len(m.bands) for m in dataset.modalities}
        assert known.evaluation == dataset.evaluation
        assert known.masks == (dataset.ignore is not None)
        assert {"train"} <= set(known.splits)


def test_the_modules_that_the_registries_name_have_what_they_must_have():
    for explainer in EXPLAINERS.values():
        module = import_module(explainer.module)
        assert callable(module.explain) and isinstance(module.PACKAGES, tuple)
        assert explainer.page is None or callable(import_module(explainer.page).result)
    for protocol in PROTOCOLS.values():
        assert callable(import_module(protocol.module).evaluate)
        assert protocol.recipe is None or protocol.recipe in Transfer.model_fields
        assert protocol.labelled or protocol.recipe is None
    for dataset in DATASETS.values():
        module = import_module(dataset.module)
        assert all(callable(getattr(module, name)) for name in ("scan", "read", "arrange_samples"))


def test_reading_a_configuration_imports_no_torch():
    code = (
        "import sys; from decur.config import load_config; load_config(sys.argv[1]);"
        "import decur.config.experiments, decur.planning.rerun; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, TINY], check=True)


DEM = "scenarios/rgb-dem"


@pytest.mark.parametrize(
    ("key", "value", "place", "meant"),
    [
        (f"{DEM}/pretrain/arch", "resnet5", "scenarios.rgb-dem.pretrain.arch", "resnet50"),
        (f"{DEM}/pretrain/arch_large", "mit_b55", "pretrain.arch_large", "mit_b5"),
        (f"{DEM}/pretrain/archs", {"rgb": "resnet8"}, "pretrain.archs.rgb", "resnet18"),
        (f"{DEM}/pretrain/archs", {"rbg": "tiny"}, "scenarios.rgb-dem", "rgb"),
        (f"{DEM}/pretrain/dataset", "geonwr", "scenarios.rgb-dem.pretrain.dataset", "geonrw"),
        (f"{DEM}/pretrain/splits", ["trian"], "scenarios.rgb-dem.pretrain.splits", "train"),
        (f"{DEM}/pretrain/knn", {"labels": "mask", "test": "tset"}, "pretrain.knn.test", "test"),
        (f"{DEM}/pretrain/optimizer", "adam", "scenarios.rgb-dem.pretrain.optimizer", "adamw"),
        (f"{DEM}/pretrain/epoch", 3, "scenarios.rgb-dem.pretrain.epoch", "epochs"),
        (f"{DEM}/modalities/dem", "dme", "scenarios.rgb-dem.modalities.dem", "dem"),
        (f"{DEM}/modalities/dem", {"like": "opticl"}, "rgb-dem.modalities.dem.like", "optical"),
        (f"{DEM}/modalities/dem", {"like": "dem", "hflp": 1}, "modalities.dem.hflp", "hflip"),
        (f"{DEM}/modalities", {"rgb": "rgb", "dme": "dem"}, "scenarios.rgb-dem", "dem"),
        ("methods", ["decur", "barlow-twin"], "methods.1", "barlow-twins"),
        ("experiments", ["tabel1"], "experiments", "table1"),
        ("datasets/geonrw/modalities", ["rgb", "demm"], "datasets.geonrw.modalities", "dem"),
        ("datasets/geonwr", {}, "datasets.geonwr", "geonrw"),
        ("datasets/geonrw/source", "scene", "datasets.geonrw.source", "scenes"),
        ("datasets/geonrw/pixel", 24, "datasets.geonrw.pixel", "pixels"),
        ("transfer/geonwr", {"task": "segmentation"} | RECIPES, "transfer.geonwr", "geonrw"),
        ("transfer/geonrw/linear/lrr", 1, "transfer.geonrw.linear.lrr", "lr"),
        ("explain/tnse", {}, "explain.tnse", "tsne"),
        ("own_experiments/o", OWN | {"panels": [PANEL | {"protocols": ["linaer"]}]}, "o", "linear"),
        ("own_experiments/o", OWN | {"kind": "algnment"}, "o: kind", "alignment"),
        ("own_experiments/o", OWN | {"panels": [PANEL | {"metrics": ["mIoU"]}]}, "o", "miou"),
        ("own_experiments/o", OWN | {"panels": [PANEL | {"scenario": "rgb-dm"}]}, "o", "rgb-dem"),
        ("own_experiments/o", OWN | {"panels": [PANEL | {"dataset": "geonw"}]}, "o", "geonrw"),
        ("own_experiments/o", OWN | {"panels": [PANEL | {"modalities": "rgb+dm"}]}, "o", "dem"),
        ("own_experiments/o", OWN | {"rows": [{"label": "D", "method": "decr"}]}, "o", "decur"),
        ("own_experiments/o", OWN | {"rows": [OWN["rows"][0] | {"panels": ["pp"]}]}, "o", "p"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_one_line_that_names_the_right_one(key, value, place, meant):
    with pytest.raises(DecurError) as caught:
        plan(edited(key, value))
    message = str(caught.value)
    assert place in message and message.endswith(f"did you mean '{meant}'?")
    assert "\n" not in message and "function-" not in message


@pytest.mark.slow
@given(st.data())
def test_whatever_is_wrong_the_message_is_one_line_with_the_key(data):
    key = data.draw(st.sampled_from(["scenarios", "datasets", "transfer", "methods", "explain"]))
    value = data.draw(st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=4))
    try:
        parse_config(edited(key, value), "my.yaml")
    except DecurError as error:
        assert str(error).startswith("my.yaml: ") and len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"geonrw": {"source": "folders", "folders": FOLDERS}}, "geonrw: is a known dataset"),
        (
            {"own": {"source": "folders", "folders": FOLDERS, "modalities": ["photo", "haet"]}},
            r"datasets\.own\.modalities: no modality 'haet' in own; did you mean 'heat'",
        ),
    ],
)
def test_datasets_of_ones_own_are_checked_too(changes, message):
    tree = yaml.safe_load(TINY.read_text())
    tree["datasets"] |= changes
    with pytest.raises(DecurError, match=message):
        parse_config(tree)


def test_bands_of_one_name_are_refused():
    tree = yaml.safe_load(TINY.read_text())
    wrong = {"modalities": FOLDERS["modalities"] | {"heat": {"folder": "h", "bands": ["a", "a"]}}}
    tree["datasets"]["own"] = {"source": "folders", "folders": wrong}
    with pytest.raises(DecurError, match=r"modalities\.heat: bands: 'a'"):
        parse_config(tree)


def test_a_dataset_of_a_variant_must_be_there_and_fit():
    row = {"label": "D", "method": "decur", "variant": "data-ombria"}
    with pytest.raises(DecurError, match="'ombria' under 'datasets'"):
        plan(edited("own_experiments/o", OWN | {"rows": [row]}))
    row["variant"] = "data-bigearthnet"
    with pytest.raises(DecurError, match=r"'rgb'.*bigearthnet"):
        plan(edited("own_experiments/o", OWN | {"rows": [row]}))


def test_an_imagenet_file_must_be_there_if_a_run_starts_from_it(tmp_path):
    tree = edited(f"{DEM}/pretrain/imagenet", str(tmp_path / "net.pth"))
    assert plan(tree)  # no method of it
    tree["methods"] += ["imagenet"]
    tree["own_experiments"] = {"o": OWN | {"rows": [{"label": "I", "method": "imagenet"}]}}
    with pytest.raises(DecurError, match=r"pretrain\.imagenet: .*net\.pth"):
        plan(tree)
    (tmp_path / "net.pth").touch()
    assert Run("rgb-dem", "imagenet") in plan(tree)


def test_without_experiments_every_method_is_pretrained_in_every_scenario():
    tree = yaml.safe_load(TINY.read_text()) | {"experiments": [], "seeds": [0, 1]}
    del tree["transfer"]
    every = product(["rgb-dem", "sar-optical"], tree["methods"], [0, 1])
    assert plan(tree) == sorted(Run(s, m, seed=n) for s, m, n in every)


def test_experiments_that_need_no_run_of_the_config_are_an_error():
    tree = yaml.safe_load(TINY.read_text()) | {"experiments": ["table3"]}
    with pytest.raises(DecurError, match="nothing would be pretrained"):
        plan(tree)


def test_a_recipe_that_an_experiment_needs_is_missed_before_anything_runs():
    tree = yaml.safe_load(TINY.read_text())
    del tree["transfer"]["bigearthnet"]
    with pytest.raises(DecurError, match=r"'table1': .*no recipe under transfer\.bigearthnet"):
        plan(tree)


TWICE = [
    ("a: 1\nb: 2\na: 3\n", 3, "a", 1),
    ("x: {a: 1,\n    a: 2}\n", 2, "a", 1),
    ("x:\n  - {b: 1}\n  - c: 1\n    d: 2\n    c: 3\n", 5, "c", 3),
    ("x: &x {a: 1}\ny:\n  <<: *x\n  b: 1\n  b: 2\n", 5, "b", 4),
    ("x: &x {a: 1}\ny: {<<: *x, <<: *x}\n", 2, "<<", 2),
    ('{"a": 1,\n\t"a": 2}', 2, "a", 1),
]


@pytest.mark.parametrize(("text", "line", "key", "first"), TWICE)
@pytest.mark.parametrize("read", [read_yaml, load_config, load_experiments])
def test_a_key_given_twice_is_named_with_file_and_line(tmp_path, read, text, line, key, first):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(DecurError) as caught:
        read(path)
    assert str(caught.value).startswith(
        f"{path}:{line}: '{key}' is given twice, first in line {first};"
    )


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc<"), inner, max_size=3),
)


@given(tree=TREES)
def test_what_gives_no_key_twice_is_read_as_ever(tree):
    text = yaml.safe_dump(tree)
    assert parse_yaml(text, "x") == tree


def test_keys_that_override_merged_ones_are_none_given_twice():
    text = "x: &x {a: 1, b: 1}\ny: &y {<<: *x, a: 2}\nz: {<<: [*x, *y], a: 3}\n"
    assert parse_yaml(text, "x")["z"] == {"a": 3, "b": 1}
