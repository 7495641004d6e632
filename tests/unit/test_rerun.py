"""Which settings make jobs run again and checkpoints useless, and which do neither."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from decur.artifacts.paths import Paths
from decur.artifacts.provenance import Origin
from decur.artifacts.records import Card
from decur.config import (
    Config,
    DatasetSettings,
    deciding,
    explain_settings,
    parse_config,
    pretrain_settings,
    transfer_settings,
)
from decur.config.experiments import (
    chosen_experiments,
    explain_runs,
    load_experiments,
    pretrain_runs,
    transfer_runs,
)
from decur.config.strict import HowAJobRuns
from decur.download.run import download
from decur.errors import DecurError
from decur.planning.rerun import (
    download_identity,
    identity,
    in_pieces_as_made,
    preprocess_identity,
    pretrain_identity,
)
from decur.preprocess.run import preprocess
from decur.pretrain.finished import run_identity
from tests.support.settings_edits import (
    EXECUTION,
    PATHS,
    TRIED_BELOW,
    models,
    owner,
    places,
    put,
    result_edits,
)

HOME = Path(__file__).parents[2]
EXPERIMENTS = load_experiments(HOME / "config" / "experiments.yaml")


def test_every_execution_setting_is_tried_here():
    marked = {
        f"{next(m for m in model.__mro__ if name in m.__annotations__).__name__}.{name}"
        for model in models(Config, set())
        for name, field in model.model_fields.items()
        if any(isinstance(mark, HowAJobRuns) for mark in field.metadata)
    }
    assert marked == EXECUTION.keys() | PATHS.keys() | TRIED_BELOW


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Raw files of a user's folders and of an unpacked archive, downloaded, with all records."""
    root = tmp_path_factory.mktemp("place")
    for name in ("photo/a.png", "heat/a.png", "masks/a.png", "unpacked/city/a.tif"):
        (root / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "mine" / name).write_text(name)
    (root / "mine" / "split.csv").write_text("id,split\na,train\n")
    (root / "mine" / "sums.txt").write_text("0  a.zip\n")
    (root / "mine" / "net.pth").write_text("weights")
    config = parse_config(tree(root / "mine", root / "results"))
    for name, chosen in config.datasets.items():
        if chosen.source != "scenes":
            download(name, chosen, Path(paths_of(config).raw(name)))
    return root


def tree(mine: Path, results: Path) -> dict[str, Any]:
    """The tiny configuration with the datasets of a user, windows and ImageNet weights."""
    tiny = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
    tiny["results"] = str(results)
    tiny["methods"] = ["decur", "barlow-twins", "random", "imagenet"]
    tiny["datasets"]["nyuv2"] = {"source": "archive", "folder": f"{mine}/unpacked"}
    tiny["datasets"]["nyuv2"]["checksums"] = f"{mine}/sums.txt"
    tiny["datasets"]["harbour"] = {
        "source": "folders",
        "folders": {
            "modalities": {
                name: {"folder": f"{mine}/{name}", "bands": [name]} for name in ("photo", "heat")
            },
            "masks": f"{mine}/masks",
            "classes": ["land", "water"],
            "split": f"{mine}/split.csv",
            "title": "Harbour",
        },
    }
    tiny["scenarios"]["rgb-dem"]["pretrain"]["imagenet"] = f"{mine}/net.pth"
    tiny["transfer"]["geonrw"]["sliding"] = {"window": [16, 16], "batch": 4}
    return tiny


def paths_of(config: Config) -> Paths:
    return Paths(config.results, config.scale)


def identities(config: Config) -> dict[tuple[str, ...], str]:
    """Every parameter of a rule that makes it run again, and every identity of checkpoints."""
    paths = paths_of(config)
    found: dict[tuple[str, ...], str] = {("config",): identity(config)}
    for name, chosen in config.datasets.items():
        found["download", name] = download_identity(name, chosen, paths)
        found["preprocess", name] = preprocess_identity(name, chosen, paths)
    chosen_ones = chosen_experiments(EXPERIMENTS, config)
    for run in pretrain_runs([*chosen_ones.values()], config):
        own = pretrain_settings(config, run)
        found["pretrain", run.scenario, str(run)] = pretrain_identity(own, paths)
        found["checkpoint", run.scenario, str(run)] = run_identity(own, {"data": "1"})
    for run, cells in transfer_runs(chosen_ones.values(), config).items():
        wanted = transfer_settings(config, run, cells)
        key = ("transfer", run.scenario, str(run), *sorted(wanted.recipes))
        found[key] = identity(wanted)
    for run, kind in explain_runs(chosen_ones.values(), config):
        found["explain", run.scenario, str(run), kind] = identity(
            explain_settings(config, run, kind)
        )
    return found


def changed(before: dict[Any, str], after: dict[Any, str]) -> set[tuple[str, ...]]:
    assert before.keys() == after.keys()
    return {key for key, text in before.items() if after[key] != text}


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_change_of_how_jobs_run_changes_no_identity(place, data):
    whole = tree(place / "mine", place / "results")
    config = parse_config(whole)
    wanted = [
        ((*at, name), EXECUTION[f"{owner(model, name)}.{name}"])
        for at, model in places(config)
        for name in type(model).model_fields
        if f"{owner(model, name)}.{name}" in EXECUTION
    ]
    edits = data.draw(st.lists(st.sampled_from(wanted), min_size=1, max_size=4))
    for keys, values in edits:
        put(whole, keys, data.draw(values))
    assert changed(identities(config), identities(parse_config(whole))) == set()


def test_what_lies_in_a_folder_counts_and_not_where_it_lies(place, tmp_path):
    config = parse_config(tree(place / "mine", place / "results"))
    moved = shutil.copytree(place / "mine", tmp_path / "moved")
    there = parse_config(tree(moved, place / "results"))
    assert changed(identities(config), identities(there)) == set()
    others = {
        "photo/b.png": ("download", "harbour"),
        "masks/a.png": ("download", "harbour"),
        "split.csv": ("download", "harbour"),
        "unpacked/city/b.tif": ("download", "nyuv2"),
        "sums.txt": ("download", "nyuv2"),
    }
    for name, key in others.items():
        other = shutil.copytree(place / "mine", tmp_path / name.replace("/", "-"))
        (other / name).write_text("something else, and longer than it was")
        found = parse_config(tree(other, place / "results"))
        assert changed(identities(config), identities(found)) == {key}
    other = shutil.copytree(place / "mine", tmp_path / "net")
    (other / "net.pth").write_text("other weights")
    found = changed(identities(config), identities(parse_config(tree(other, place / "results"))))
    assert found == set()  # no run of the tiny tables starts from the file


def expected(keys: tuple[str, ...], config: Config, all_: set[tuple[str, ...]]) -> set[Any]:
    """The identities that depend on a setting."""
    section, name, *rest = keys
    found: set[Any] = {("config",)}
    if section == "datasets":
        found |= {("preprocess", name)}
        reads = ("scenes", "pixels", "seasons") if config.datasets[name].scenes else ("splits",)
        found |= {("download", name)} if rest[0] in reads else set()
    if section == "scenarios":
        found |= {key for key in all_ if len(key) > 2 and key[1] == name}
    if section == "transfer":
        found |= {key for key in all_ if key[0] == "transfer" and name in key[3:]}
    if section == "explain":
        found |= {key for key in all_ if key[0] == "explain" and key[3] == name}
    return found


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_change_of_results_changes_the_dependent_identities_and_no_other(place, data):
    whole = tree(place / "mine", place / "results")
    config = parse_config(whole)
    keys, value = data.draw(st.sampled_from(result_edits(config)))
    put(whole, keys, value)
    try:
        edited = parse_config(whole)
    except DecurError as error:  # such as more common dimensions than there are
        assert "\n" not in str(error)
        reject()
    before = identities(config)
    assert changed(before, identities(edited)) == expected(keys, config, {*before})


def record(paths: Paths, chosen: DatasetSettings, quarantined: int) -> None:
    """A card as preprocessing leaves it."""
    card = Path(paths.card("geonrw"))
    card.parent.mkdir(parents=True, exist_ok=True)
    origin = Origin(settings=chosen.model_dump(mode="json"))
    card.write_text(json.dumps(Card(quarantined=quarantined, provenance=origin).dump()))


SCENES = {"source": "scenes", "scenes": {"train": 4, "test": 4}}


@pytest.mark.parametrize("bad", [0, 3])
@pytest.mark.parametrize("first", ["stop", "skip"])
def test_bad_samples_count_only_where_there_were_some(tmp_path, first, bad):
    paths = Paths(str(tmp_path), "x")
    made = DatasetSettings(**SCENES, bad_samples=first)
    asked = preprocess_identity("geonrw", made, paths)
    record(paths, made, bad if first == "skip" else 0)
    assert preprocess_identity("geonrw", made, paths) == asked  # or it would run for ever
    other = made.model_copy(update={"bad_samples": "stop" if first == "skip" else "skip"})
    again = preprocess_identity("geonrw", other, paths)
    assert (again != asked) == (first == "skip" and bad > 0)
    if again != asked:
        record(paths, other, 0)  # it ran again
        assert preprocess_identity("geonrw", other, paths) == again


def test_finished_shards_keep_the_number_of_jobs_that_made_them(tmp_path):
    paths = Paths(str(tmp_path), "x")
    made, more = (DatasetSettings(**SCENES, pieces=count) for count in (1, 8))
    assert in_pieces_as_made("geonrw", more, paths).pieces == 8
    record(paths, made, 0)
    assert in_pieces_as_made("geonrw", more, paths).pieces == 1
    other = more.model_copy(update={"pixels": 128})
    assert in_pieces_as_made("geonrw", other, paths).pieces == 8


def test_a_stage_is_still_given_and_records_how_it_runs():
    config = parse_config(tree(Path("/x"), Path("/y")))
    (run, *_) = transfer_runs(chosen_experiments(EXPERIMENTS, config).values(), config)
    own = pretrain_settings(config, run)
    assert "checkpoint_steps" in own.model_dump() and "checkpoint_steps" not in deciding(own)


def test_shards_of_a_folder_that_was_moved_ask_for_new_links(place, tmp_path):
    moved = shutil.copytree(place / "mine", tmp_path / "moved")
    config = parse_config(tree(moved, tmp_path / "results"))
    for name in ("nyuv2", "harbour"):
        raw = Path(paths_of(config).raw(name))
        download(name, config.datasets[name], raw)
    moved.rename(tmp_path / "elsewhere")
    for name in ("nyuv2", "harbour"):
        raw = Path(paths_of(config).raw(name))
        with pytest.raises(DecurError, match=f"does not exist; .*--forcerun {raw}/manifest.json"):
            preprocess(name, config.datasets[name], raw, tmp_path / "shards" / name)


def test_the_page_of_the_configuration_lists_every_setting_of_how_jobs_run():
    page = (HOME / "config" / "README.md").read_text()
    table = page.partition("| setting | |")[2].partition("\n\n")[0]
    first = "".join(re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE))
    listed = set(re.findall(r"`(\w+)`", first))
    names = {key.partition(".")[2] for key in {*EXECUTION, *PATHS, *TRIED_BELOW}}
    assert listed - {"sliding"} == names
