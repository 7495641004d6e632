"""Nothing is removed or replaced that this package did not make, whenever it is killed."""

import json
import os
import string
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from decur.artifacts import files, ownership
from decur.artifacts.files import temporary_of, write_atomically
from decur.artifacts.ownership import (
    OwnFolder,
    check_listed,
    write_folder_ours,
    write_ours,
    write_with_record,
)
from decur.artifacts.provenance import write_json
from decur.cli import main
from decur.errors import DecurError
from decur.pretrain.loop import train_run
from tests.support.preprocessing import make_raw
from tests.support.pretraining import settings as pretrain_settings
from tests.support.weights import save

BANDS = {"photo": ("R", "G", "B"), "thermal": ("T",)}
ORIGIN = {"provenance": {"decur": "0"}}
NAMES = st.text(string.ascii_letters + string.digits + "._- é$~", min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..", ".decur") and not name.startswith(".decur")
)
TREES = st.dictionaries(NAMES, st.binary(max_size=8), max_size=4)


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """All that lies in a folder but the hidden folder of records and stages."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if ".decur" not in name.parts and not path.is_dir():
            found[str(name)] = str(path.readlink()) if path.is_symlink() else path.read_bytes()
    return found


def fill(folder: Path, content: dict[str, bytes]) -> None:
    """What a stage does: prepare everything, then put it in place."""
    own = OwnFolder(folder, "record.json")
    staged = own.stage()
    for name, data in content.items():
        (staged / name).write_bytes(data)
    write_json(staged / "record.json", ORIGIN)
    own.put_in_place(staged, sorted(content))


def kill_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Let the process be killed before its n-th change of a name, or removal of a file."""
    count = 0

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def changing(*args: object, **more: object) -> object:
            nonlocal count
            count += 1
            if count >= moment:  # whatever is tried afterwards fails, too
                raise Killed
            return change(*args, **more)

        return changing

    for name in ("rename", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    monkeypatch.setattr(files.shutil, "rmtree", counted(files.shutil.rmtree))


FOLDERS = [{"a": b"1", "b": b"2"}, {"b": b"3", "c": b"4", ".hidden": b"5"}, {"a": b"6"}]


@pytest.mark.parametrize("moment", range(1, 45))
def test_killed_at_any_moment_a_folder_is_ours_and_the_next_run_is_whole(
    tmp_path, monkeypatch, moment
):
    folder = tmp_path / "out"
    fill(folder, FOLDERS[0])
    for content in FOLDERS[1:]:
        with monkeypatch.context() as patch:
            kill_at(patch, moment)
            with suppress(Killed):
                fill(folder, content)
    fill(folder, FOLDERS[1])
    found = snapshot(folder)
    assert json.loads(found.pop("record.json")) == ORIGIN
    assert found == FOLDERS[1]


@pytest.mark.parametrize("again", [0, 1, 2, 3])
@pytest.mark.parametrize("moment", range(1, 45))
def test_killed_while_it_is_put_in_place_a_stage_that_is_kept_is_whole(
    tmp_path, monkeypatch, moment, again
):
    """Also if the run after that is killed while it takes the stage back."""
    folder = tmp_path / "out"
    fill(folder, FOLDERS[0])
    own = OwnFolder(folder, "record.json")
    staged = own.stage("new", keep=True)
    for name, data in FOLDERS[1].items():
        (staged / name).write_bytes(data)
    (staged / "record.json").write_text(json.dumps(ORIGIN | {"new": True}))
    for at, step in (
        (moment, lambda: own.put_in_place(staged, sorted(FOLDERS[1]))),
        (again, lambda: own.stage("new", keep=True)),
    ):
        with monkeypatch.context() as patch:
            kill_at(patch, at or 1000)
            with suppress(Killed):
                step()
    there = snapshot(folder)
    if "new" in json.loads(there.get("record.json", "{}")):
        assert there.keys() == {*FOLDERS[1], "record.json"}
        return
    kept = own.stage("new", keep=True)
    found = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert {name: found.get(name) for name in FOLDERS[1]} == FOLDERS[1]
    assert found.keys() <= {*FOLDERS[1], "record.json"}


@pytest.mark.parametrize("moment", range(1, 16))
def test_killed_at_any_moment_files_of_a_record_are_ours(tmp_path, monkeypatch, moment):
    record, paths = tmp_path / "t.json", [tmp_path / "t.csv", tmp_path / "t.md"]
    for text in (b"1", b"2", b"3"):
        with monkeypatch.context() as patch:
            kill_at(patch, moment)
            with suppress(Killed):
                write_with_record(record, ORIGIN, dict.fromkeys(paths, text))
    check_listed(record, paths)
    write_with_record(record, ORIGIN, dict.fromkeys(paths, b"4"))
    assert [path.read_bytes() for path in paths] == [b"4", b"4"]
    assert {type(sums) for sums in json.loads(record.read_text())["files"].values()} == {str}


@pytest.mark.parametrize("moment", range(1, 12))
@pytest.mark.parametrize("write", [write_ours, write_folder_ours])
def test_killed_at_any_moment_an_entry_is_ours(tmp_path, monkeypatch, moment, write):
    path = tmp_path / "entry"

    def put(text: str, temporary: Path) -> None:
        (temporary / "file" if temporary.is_dir() else temporary).write_text(text)

    for text in ("1", "2", "3"):
        with monkeypatch.context() as patch:
            kill_at(patch, moment)
            with suppress(Killed):
                write(path, lambda temporary, text=text: put(text, temporary))
    write(path, lambda temporary: put("4", temporary))
    assert (path / "file" if path.is_dir() else path).read_text() == "4"


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(foreign=TREES, ours=TREES, later=TREES, below=st.booleans())
def test_nothing_of_others_is_lost_whatever_lies_there(
    tmp_path_factory, foreign, ours, later, below
):
    """Somebody's files, in our folder or below one of our entries, are there afterwards."""
    folder = tmp_path_factory.mktemp("any") / "out"
    fill(folder, ours)
    (folder / "entry").mkdir(exist_ok=True)
    place = folder / "entry" if below else folder
    before = {}
    for name, data in foreign.items():
        path = place / name
        if not os.path.lexists(path):
            path.write_bytes(data)
            before[path] = data
    try:
        fill(folder, later)
    except DecurError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
        assert {n: d for n, d in snapshot(folder).items() if n in ours} == ours
    for path, data in before.items():
        assert path.read_bytes() == data


def test_what_was_changed_since_is_not_ours(tmp_path):
    fill(tmp_path, {"a": b"1"})
    (tmp_path / "a").write_bytes(b"2")
    with pytest.raises(DecurError, match=r"holds 'a', which was not written by decur or was chang"):
        fill(tmp_path, {"a": b"3"})
    assert (tmp_path / "a").read_bytes() == b"2"


def test_a_folder_that_is_a_link_is_filled_where_it_leads(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")  # which is not there yet
    for content in FOLDERS:
        fill(tmp_path / "link", content)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "a").read_bytes() == b"6"


@pytest.mark.parametrize("name", ["../precious", "..", "", "sub/../../precious", 7, None])
def test_a_forged_record_leads_nowhere(tmp_path, name):
    (tmp_path / "precious").write_text("mine")
    fill(tmp_path / "out", {"a": b"1"})
    forged = {"name": name, "made": [ownership.content_digest(tmp_path / "precious")]}
    (tmp_path / "out" / ".decur" / "made" / "0.json").write_text(json.dumps(forged))
    fill(tmp_path / "out", {"b": b"2"})
    OwnFolder(tmp_path / "out", "record.json").clear()
    assert (tmp_path / "precious").read_text() == "mine"


def test_links_are_removed_and_what_they_lead_to_stays(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "precious").write_text("mine")
    own = OwnFolder(tmp_path / "out", "record.json")
    staged = own.stage()
    (staged / "link").symlink_to(data)
    write_json(staged / "record.json", ORIGIN)
    own.put_in_place(staged, ["link"])
    (data / "more").write_text("mine, too")  # is no change of the link
    fill(tmp_path / "out", {"a": b"1"})
    assert snapshot(data) == {"precious": b"mine", "more": b"mine, too"}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o007])
def test_files_obey_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        save = {"w": torch.zeros(2)}
        write_atomically(tmp_path / "w.safetensors", lambda path: save_file(save, path))
        write_atomically(tmp_path / "t.txt", lambda path: path.write_text("t"))
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_temporaries_of_a_killed_writer_go_and_those_of_a_living_one_stay(tmp_path, monkeypatch):
    path = tmp_path / "features.tif"
    machine = temporary_of(path).name.rpartition(".decur")[0].rpartition(".")[2].partition("-")[0]
    killed = tmp_path / f".features.tif.{machine}-{2**22 + 1}.decur"  # above any process number
    living = tmp_path / f".features.tif.{machine}-{os.getppid()}.decur"
    far, old = (tmp_path / f".features.tif.0123456{i}-7.decur" for i in (7, 8))
    others = tmp_path / f".other.tif.{machine}-{2**22 + 1}.decur"
    mine = tmp_path / ".features.tif.decur"
    for temporary in (killed, living, far, old, others, mine):
        temporary.write_text("half")
    os.utime(old, (0, 0))
    write_atomically(path, lambda temporary: temporary.write_text("whole"))
    assert {p.name for p in tmp_path.iterdir()} == {
        *(p.name for p in (path, living, far, others, mine))
    }


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line in which a command refuses."""
    assert main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("decur: error: ")
    return lines[-1]


def test_download_refuses_a_folder_of_somebody_else(tmp_path, capsys):
    source, out = tmp_path / "source", tmp_path / "data"
    (source / "aachen").mkdir(parents=True)
    (source / "aachen" / "1_1_rgb.jp2").write_bytes(b"x")
    out.mkdir()
    (out / "thesis.txt").write_text("years")
    command = ["download", "geonrw", "--settings", json.dumps({"folder": str(source)}), "--out"]
    assert "holds 'thesis.txt'" in refused([*command, str(out)], capsys)
    assert snapshot(out) == {"thesis.txt": b"years"}
    for _ in range(2):  # what is ours may be replaced
        assert main([*command, str(tmp_path / "raw")]) == 0
    (tmp_path / "raw" / "notes.txt").write_text("mine")
    assert "holds 'notes.txt'" in refused([*command, str(tmp_path / "raw")], capsys)
    assert (tmp_path / "raw" / "aachen" / "1_1_rgb.jp2").is_file()


def test_a_raw_folder_of_ours_may_be_the_unpacked_folder_of_another(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("x")
    for source, out in (("source", "first"), ("first", "second"), ("first", "second")):
        chosen = json.dumps({"folder": str(tmp_path / source)})
        out_folder = str(tmp_path / out)
        assert main(["download", "geonrw", "--settings", chosen, "--out", out_folder]) == 0
    assert (tmp_path / "second" / "file").read_text() == "x"
    assert (tmp_path / "first" / "manifest.json").is_file()


@pytest.mark.parametrize("beside", ["data.part", "data.0123456789ab.part", ".data.old"])
def test_download_leaves_alone_what_lies_beside_its_folder(tmp_path, beside):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("x")
    (tmp_path / beside).mkdir()
    (tmp_path / beside / "precious").write_text("mine")
    chosen = json.dumps({"folder": str(tmp_path / "source")})
    assert main(["download", "geonrw", "--settings", chosen, "--out", str(tmp_path / "data")]) == 0
    assert (tmp_path / beside / "precious").read_text() == "mine"


@pytest.mark.parametrize("out", ["a", "a/../a", "link", "."])
def test_download_refuses_the_folder_of_the_archives(tmp_path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    Path("a/nrw_dataset.tar.gz").write_bytes(b"32 GB")
    Path("link").symlink_to("a")
    assert (
        "nrw" in refused(["download", "geonrw", "--from", "a", "--out", out], capsys) or out == "."
    )
    assert Path("a/nrw_dataset.tar.gz").read_bytes() == b"32 GB"


@pytest.mark.parametrize(
    "foreign",
    ["features-00001.npy", "rgb-00000.npy", "parts/keep.txt", "index.parquet", "card.json"],
)
def test_preprocess_refuses_a_folder_of_somebody_else(tmp_path, capsys, foreign):
    raw, out = make_raw(tmp_path / "raw", 1), tmp_path / "out"
    (out / foreign).parent.mkdir(parents=True)
    (out / foreign).write_text("mine")
    command = ["preprocess", "geonrw", "--settings", '{"pixels": 16}', "--raw", str(raw)]
    line = refused([*command, "--out", str(out)], capsys)
    assert f"holds '{foreign.split('/')[0]}'" in line
    assert snapshot(out) == {foreign: b"mine"}
    (out / foreign).rename(tmp_path / "moved")
    for folder in out.iterdir():
        folder.rmdir()
    for _ in range(2):
        assert main([*command, "--out", str(out)]) == 0


def test_the_remedy_for_a_damaged_shard_mends_the_folder(tmp_path, capsys):
    raw, out = make_raw(tmp_path / "raw", 1), tmp_path / "out"
    command = ["preprocess", "geonrw", "--settings", '{"pixels": 16}', "--raw", str(raw)]
    command += ["--out", str(out)]
    assert main(command) == 0
    shard = out / "rgb-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1])
    line = refused(["verify", str(out)], capsys)
    assert "delete the files named above and run the preprocess stage again" in line
    assert "holds 'rgb-00001.npy'" in refused(command, capsys)  # it might be the user's
    shard.unlink()
    assert main(command) == 0
    assert main(["verify", str(out)]) == 0


def test_export_refuses_a_readme_of_somebody_else(shards_root, tmp_path, capsys):
    weights, out = (
        train_run(pretrain_settings(method="random"), shards_root, tmp_path),
        tmp_path / "hub",
    )
    command = ["weights", "export", str(weights), "--modality", "sar", "--format", "safetensors"]
    for name in ("README.md", "config.json", "preprocessing.json"):
        out.mkdir()
        (out / name).write_text('{"mine": 1}')
        assert f"{out / name}: exists and was not written by decur" in refused(
            [*command, "--out", str(out)], capsys
        )
        assert snapshot(out) == {name: b'{"mine": 1}'}
        (out / name).unlink()
        out.rmdir()
    for _ in range(2):
        assert main([*command, "--out", str(out)]) == 0
    (out / "README.md").write_text("edited")
    assert "README.md: exists" in refused([*command, "--out", str(out)], capsys)
    assert (out / "README.md").read_text() == "edited"


def test_import_and_embed_refuse_files_of_somebody_else(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(Path("weights.safetensors"), BANDS)
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "height": 32, "width": 32, "count": 3, "dtype": "uint8"}
    for name in ("scene.tif", "other.tif"):
        with rasterio.open(name, "w", **profile) as file:
            file.write(rng.integers(0, 255, (3, 32, 32), dtype=np.uint8))
    Path("a.npy").write_bytes(b"mine")
    Path("a.parquet").write_bytes(b"mine")
    before = snapshot(tmp_path)
    command = ["embed", "weights.safetensors", "scene.tif", "--modality", "photo", "--out"]
    for out in ("other.tif", "a.npy", "a.parquet"):
        assert f"{out}: exists and was not written by decur" in refused([*command, out], capsys)
    assert snapshot(tmp_path) == before
    for out in ("new.tif", "new.npy", "new.parquet", "folder"):
        for _ in range(2):
            assert main([*command, out]) == 0
    assert ownership.made(tmp_path) == {"new.npy"}
