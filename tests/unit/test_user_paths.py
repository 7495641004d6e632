"""`~` and variables in every path that a user gives: replaced, or one line that says why not."""

import argparse
import copy
import json
import os
import pwd
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from decur.cli import command_line, main
from decur.cli.parser import user_path, user_path_text
from decur.cli.stages import _json_or_path
from decur.cluster.user import STAND_IN
from decur.cluster.user_paths import expand
from decur.config import DatasetSettings, PretrainSettings, parse_config
from decur.errors import DecurError
from decur.planning import doctor

HOME = Path(__file__).parents[2]
TINY = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
OWN = {
    "source": "folders",
    "folders": {
        "modalities": {"a": {"folder": "a", "bands": ["x"]}, "b": {"folder": "b", "bands": ["x"]}},
        "masks": "masks",
        "classes": ["one", "two"],
        "split": "split.csv",
    },
}
LABELLED = copy.deepcopy(OWN)
LABELLED["folders"]["labels"] = LABELLED["folders"].pop("masks")
PATHS = [
    "results",
    *(f"datasets.geonrw.{key}" for key in ("folder", "archives", "checksums")),
    *(f"datasets.own.folders.{key}" for key in ("masks", "split", "modalities.a.folder")),
    "datasets.labelled.folders.labels",
    *(f"scenarios.rgb-dem.pretrain.{key}" for key in ("imagenet", "imagenet_large", "released")),
]
"""Every key of the configuration that holds a path."""


def with_path(key, value):
    """A configuration whose `key` is `value`, and what reads that key of a parsed one."""
    tree = copy.deepcopy(TINY)
    tree["datasets"] |= {"own": copy.deepcopy(OWN), "labelled": copy.deepcopy(LABELLED)}
    *above, last = key.split(".")
    part = tree
    for name in above:
        part = part[name]
    part[last] = value
    return tree


def read(config, key):
    tree = config.model_dump()
    for name in key.split("."):
        tree = tree[name]
    return tree


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    for name in ("NOPE", STAND_IN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("PART", "b")
    monkeypatch.setenv("LATER", "~/$PART")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("LOOP", "$LOOP/x")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("~", "{home}"),
        ("~/x", "{home}/x"),
        ("a~/x", "a~/x"),
        ("$SCRATCH/x", "/scratch/me/x"),
        ("${SCRATCH}/x/$PART", "/scratch/me/x/b"),
        ("a-${PART}c_$PART.tif", "a-bc_b.tif"),
        ("$LATER/x", "{home}/b/x"),
        ("a$", "a$"),
        ("a$1/", "a$1/"),
        ("", ""),
    ],
)
def test_a_path_is_what_a_shell_would_make_of_it(tmp_path, text, found):
    assert expand(text) == found.format(home=tmp_path)


def test_a_home_that_is_the_root_of_all_folders_adds_no_second_slash(monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert (expand("~"), expand("~/x")) == ("/", "/x")


def test_a_folder_of_another_user_is_found():
    root = pwd.getpwuid(0)
    assert expand(f"~{root.pw_name}/x") == f"{root.pw_dir}/x"


PIECES = st.sampled_from(["a", "/", "$SCRATCH/", "${SCRATCH}", "${PART}", ".", "~", " ", "é"])


@given(st.lists(PIECES).map("".join))
def test_variables_are_those_of_the_standard_library_and_twice_is_once(text):
    text = f"./{text}"
    found = expand(text)
    assert found == os.path.expandvars(text)
    assert expand(found) == found


@given(st.text(st.characters(exclude_characters="$~\0"), max_size=30))
def test_other_text_stays_as_it_is(text):
    assert expand(text) == text


@pytest.mark.parametrize("name", ["a$PART", "$NOPE", "~", "~nobody-here", "${NOPE}"])
def test_a_folder_that_has_such_a_name_is_meant(tmp_path, name):
    (tmp_path / name).mkdir()
    for text in (name, f"{name}/not/yet", f"{tmp_path}/{name}/x"):
        assert expand(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("$NOPE/x", "the variable NOPE is not set; set and export it, or write the full path"),
        ("a/${EMPTY}", "the variable EMPTY is not set"),
        ("~nobody-here/x", "`~nobody-here`: there is no such user; correct the name, or write"),
        ("$LOOP", "the variable LOOP refers to itself"),
        ("${PART", "`${PART` is not a variable"),
        ("${}/x", "`${}` is not a variable"),
        ("${NOPE:-x}", "`${NOPE:-x}` is not a variable"),
    ],
)
@pytest.mark.parametrize("key", PATHS)
def test_a_key_of_an_unknown_folder_is_named_in_one_line(key, text, why):
    with pytest.raises(DecurError) as raised:
        parse_config(with_path(key, text))
    told = str(raised.value)
    assert told.startswith(f"config: {key}: ") and "\n" not in told
    assert why in told and told.endswith(f"(found {text!r})")


@pytest.mark.parametrize("home", [None, "/nonexistent", "stand-in"])
@pytest.mark.parametrize("text", ["~/x", "$HOME/x"])
def test_a_home_folder_that_is_not_there_is_named(monkeypatch, tmp_path, home, text):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError("unknown")))
    if home == "stand-in":
        home = str(tmp_path)
        monkeypatch.setenv(STAND_IN, home)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(DecurError, match=r"there is no home folder|HOME is not set"):
        expand(text)


@pytest.mark.parametrize("key", PATHS)
def test_every_path_of_the_configuration_is_expanded(tmp_path, key):
    config = parse_config(with_path(key, "~/${PART}/c"))
    assert read(config, key) == f"{tmp_path}/b/c"
    again = parse_config(json.loads(config.model_dump_json()))
    assert again == config  # as a stage reads it


def test_no_key_of_the_configuration_that_holds_a_path_is_left_out():
    """A new key that is described as a folder, file or list must be expanded, and be above."""
    schema = json.loads((HOME / "config" / "schema.json").read_text())
    parts = {"": schema, **schema["$defs"]}
    known = {key.rpartition(".")[2] for key in PATHS} | {"folders"}
    for part in parts.values():
        for name, field in part["properties"].items():
            text = field.get("description", "")
            if text.lower().startswith(("folder", "file", "csv", "list by", "geotiff")):
                assert name in known, name


@pytest.mark.parametrize("value", ["a{b}", "{b}", "-rf", "a\nb", ""])
def test_what_snakemake_cannot_read_is_refused_after_expansion(monkeypatch, value):
    monkeypatch.setenv("VALUE", value)
    with pytest.raises(DecurError, match=r"results: .*(Snakemake cannot read|VALUE is not set)"):
        parse_config(with_path("results", "${VALUE}"))


@pytest.mark.parametrize("settings", [DatasetSettings, PretrainSettings])
def test_the_settings_of_a_stage_are_expanded_too(tmp_path, settings):
    if settings is DatasetSettings:
        assert DatasetSettings(folder="~/x").folder == f"{tmp_path}/x"
    else:
        tree = {"dataset": "d", "scenario": "s", "method": "decur", "seed": 0, "modalities": {}}
        assert PretrainSettings(**tree, imagenet="~/x").imagenet == f"{tmp_path}/x"


def arguments(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from arguments(below)
        else:
            yield parser.prog, action


def test_every_argument_that_is_a_path_is_expanded():
    expanding = (user_path, user_path_text, _json_or_path)
    for verb, action in arguments(command_line()):
        assert action.type is not Path, (verb, action.dest)
        named = str(action.metavar)
        if named in {"DIR", "FILE", "INPUT", "JSON"} or action.dest in {"out", "weights", "file"}:
            assert action.type in expanding, (verb, action.dest)


def test_an_argument_is_expanded(tmp_path):
    parse = command_line().parse_args
    args = parse(["verify", "--threads", "2", "~/x"])
    assert args.path == tmp_path / "x"
    words = ["download", "geonrw", "--from=~/x", "--out=$SCRATCH/x", "--settings=~/$PART.json"]
    args = parse(words)
    assert (args.archives, args.out) == (f"{tmp_path}/x", Path("/scratch/me/x"))
    assert args.settings == f"{tmp_path}/b.json"
    assert parse(["download", "a", "--out=x", '--settings={"a": "~$NOPE"}']).settings[0] == "{"


@pytest.mark.parametrize("option", ["--out", "--raw", "--settings"])
def test_an_option_of_an_unknown_folder_is_named_in_one_line(tmp_path, capsys, option):
    words = {"--out": "out", "--raw": "raw", "--settings": "{}", option: "$NOPE/x"}
    with pytest.raises(SystemExit) as end:
        main(["preprocess", "geonrw", *(word for pair in words.items() for word in pair)])
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.count("\n") == 1
    assert f"argument {option}: '$NOPE/x': the variable NOPE is not set; set and export" in told
    assert list(tmp_path.iterdir()) == []


def test_a_profile_of_an_unknown_folder_is_named_in_one_line(capsys):
    assert main(["plan", "--profile", "$NOPE/slurm"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("decur: error: --profile ('$NOPE/slurm'): the variable NOPE is not set")


def test_the_folder_of_the_samples_is_expanded(monkeypatch, tmp_path, capsys):
    words = ["download", "geonrw", "--settings", '{"source": "samples"}', "--out", "raw"]
    monkeypatch.setenv("DECUR_SAMPLES", "~/samples")
    assert main(words) == 1
    assert f"the samples folder {tmp_path}/samples does not exist" in capsys.readouterr().err
    monkeypatch.setenv("DECUR_SAMPLES", "$NOPE/samples")
    assert main(words) == 1
    told = "decur: error: DECUR_SAMPLES ('$NOPE/samples'): the variable NOPE is not set; set and "
    assert capsys.readouterr().err.startswith(told)
    assert not (tmp_path / "raw").exists()


def test_the_doctor_looks_at_expanded_paths_and_at_folders_of_own_images(tmp_path, monkeypatch):
    monkeypatch.delenv("DECUR_SAMPLES", raising=False)
    tree = with_path("datasets.geonrw.folder", "~/here")
    tree["datasets"]["geonrw"] = {"folder": "~/here"}
    tree["datasets"]["own"]["folders"]["modalities"]["b"]["folder"] = "$SCRATCH/b"
    (tmp_path / "here").mkdir()
    (tmp_path / "a").mkdir()
    errors = {f.subject: f.found for f in doctor.sources(parse_config(tree))}
    assert errors == {
        "datasets.own.folders.modalities.b.folder": "/scratch/me/b: not found",
        "datasets.own.folders.masks": "masks: not found",
        "datasets.own.folders.split": "split.csv: not found",
        "datasets.labelled.folders.modalities.b.folder": "b: not found",
        "datasets.labelled.folders.labels": "masks: not found",
        "datasets.labelled.folders.split": "split.csv: not found",
    }


def test_the_doctor_reports_variables_that_are_not_set(tmp_path, monkeypatch):
    monkeypatch.setenv("DECUR_SAMPLES", "$NOPE/x")
    findings = list(doctor.sources(parse_config(TINY)))
    assert [(f.subject, f.state) for f in findings] == [("$DECUR_SAMPLES", "error")]
    assert "NOPE is not set" in findings[0].found
    monkeypatch.setattr(doctor, "CHECKS", ())
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(TINY | {"results": "$NOPE/x"}))
    (finding,) = (f for f in doctor.examine(str(path)) if f.subject == "config")
    assert finding.state == "error" and "export it" in finding.found
