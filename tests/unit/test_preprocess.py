"""Preprocessing can be killed, cut and fed with rubbish; its shards are right or not there."""

import errno
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from decur.cli import main
from decur.cluster import workers
from decur.config import DatasetSettings, Piece
from decur.errors import DecurError
from decur.preprocess import run as convert
from decur.preprocess.run import preprocess
from decur.shards import PairedShards
from decur.shards.part import ArrayFile
from tests.support.preprocessing import SETTINGS, files_of, make_raw, run
from tests.support.samples import flip_bit

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PROCESSES = multiprocessing.get_context(workers.METHOD)

SLOWLY = """
import sys, time
from pathlib import Path
from decur.config import DatasetSettings
from decur.datasets import geonrw
from decur.preprocess import run as convert
read = geonrw.read
def slow(*args):
    time.sleep(0.02)
    return read(*args)
geonrw.read = slow
if __name__ == "__main__":
    raw, out = map(Path, sys.argv[1:])
    convert.preprocess("geonrw", DatasetSettings(pixels=16), raw, out, workers=2)
"""


def slow_script(folder: Path) -> list[str]:
    """A command that preprocesses with two workers, which take their time; add raw and out."""
    script = folder / "slowly.py"
    script.write_text(SLOWLY)
    return [sys.executable, str(script)]


@pytest.mark.slow
def test_the_shards_are_the_same_for_any_number_of_workers(raw, tmp_path):
    one, three = run(raw, tmp_path / "a" / "x"), run(raw, tmp_path / "b" / "x", workers=3)
    assert files_of(one) == files_of(three)
    assert len(PairedShards(one)) == 48
    assert len(PairedShards(one).card.files["rgb"]) == 16


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 20])
def test_pieces_written_at_once_end_in_the_shards_of_one_job(raw, tmp_path, count):
    one, out = run(raw, tmp_path / "a" / "x"), tmp_path / "b" / "x"
    pieces = [Piece(number, count) for number in range(1, count + 1)]
    jobs = [
        PROCESSES.Process(
            target=preprocess, args=("geonrw", SETTINGS, raw, out), kwargs={"piece": piece}
        )
        for piece in pieces
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
        assert job.exitcode == 0
    assert not (out / "card.json").exists()
    written = {path.name: path.stat().st_mtime_ns for path in out.glob(".decur/parts/*.npy")}
    assert len(written) == 48
    run(raw, out, SETTINGS.model_copy(update={"pieces": count}))
    assert files_of(out) == files_of(one)
    assert written == {path.name: path.stat().st_mtime_ns for path in out.glob("*.npy")}


def test_a_piece_that_is_lost_is_made_by_the_last_job(raw, tmp_path):
    preprocess("geonrw", SETTINGS, raw, tmp_path / "b", piece=Piece(2, 3))
    assert files_of(run(raw, tmp_path / "b")) == files_of(run(raw, tmp_path / "a"))


@pytest.mark.parametrize("text", ["0-of-3", "4-of-3", "2/3", "of"])
def test_a_wrong_piece_ends_in_one_line(raw, tmp_path, capsys, text):
    arguments = ["preprocess", "geonrw", "--settings", "{}", "--raw", str(raw)]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--piece", text]) == 1
    assert f"piece '{text}': expected <number>-of-<count>" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_at_random_moments_and_run_again_the_shards_are_identical(tmp_path):
    raw = make_raw(tmp_path / "raw", 12)
    whole, killed = run(raw, tmp_path / "whole"), tmp_path / "killed"
    command = [*slow_script(tmp_path), str(raw), str(killed)]
    moments = random.Random(0)
    for _ in range(3):
        before = len(list(killed.glob(".decur/parts/rgb-*.npy")))
        job = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while len(list(killed.glob(".decur/parts/rgb-*.npy"))) == before and job.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.2))
        os.killpg(job.pid, signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL
        assert not (killed / "card.json").exists()
    kept = {p.name: p.stat().st_mtime_ns for p in killed.glob(".decur/parts/[!.]*.npy")}
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert files_of(killed) == files_of(whole)
    assert any((killed / name).stat().st_mtime_ns == then for name, then in kept.items())


def run_until_a_rename(raw: Path, out: Path, last: int) -> None:
    """Preprocess, and die by SIGKILL before the rename number `last`."""
    replace, count = Path.replace, 0

    def kill_at_the_last(path: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(path, target)

    Path.replace = kill_at_the_last  # type: ignore[method-assign,assignment]
    run(raw, out)


@pytest.mark.slow
@pytest.mark.parametrize("last", [*range(1, 16, 3), 64, 65, 66, 67])
def test_killed_before_any_of_its_renames_and_run_again_the_shards_are_identical(tmp_path, last):
    raw, out = make_raw(tmp_path / "raw", 1), tmp_path / "out"
    job = PROCESSES.Process(target=run_until_a_rename, args=(raw, out, last))
    job.start()
    job.join(60)
    assert job.exitcode == -signal.SIGKILL
    assert not (out / "card.json").exists()
    assert files_of(run(raw, out)) == files_of(run(raw, tmp_path / "whole"))


@pytest.mark.slow
def test_workers_end_with_a_main_process_that_is_killed(tmp_path):
    raw = make_raw(tmp_path / "raw", 12)
    command = [*slow_script(tmp_path), str(raw), str(tmp_path / "out")]
    job = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("out/.decur/parts/.*.npy.*")):
        time.sleep(0.01)
    job.kill()
    job.wait()
    for _ in range(100):
        try:
            os.killpg(job.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGKILL)
    pytest.fail("workers outlive the main process")


def test_a_shard_that_was_damaged_while_the_job_was_down_is_made_again(raw, tmp_path, monkeypatch):
    def stop(*_: object) -> None:
        raise DecurError("stopped")

    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(DecurError, match="stopped"):
        patch.setattr(convert, "assemble", stop)
        run(raw, out)
    flip_bit(out / ".decur" / "parts" / "rgb-00003.npy", -1)
    assert files_of(run(raw, out)) == files_of(run(raw, tmp_path / "whole"))


def test_shards_of_other_settings_are_not_kept(raw, tmp_path):
    out = run(raw, tmp_path / "out", DatasetSettings(pixels=16, modalities=("rgb", "nir")))
    (out / "card.json").unlink()
    assert files_of(run(raw, out)) == files_of(run(raw, tmp_path / "whole"))


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_ends_in_one_line(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "convert", die)  # found by its name in the workers, too
    with pytest.raises(DecurError, match="geonrw: a worker process died") as raised:
        run(raw, tmp_path / "out", workers=2)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out" / "card.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "4", "ALL_CPUS"])
def test_workers_do_not_wait_for_threads_of_gdal_that_they_lack(raw, tmp_path, threads):
    command = [sys.executable, "-m", "decur.cli", "preprocess", "geonrw", "--threads", "2"]
    command += ["--settings", '{"pixels": 16}', "--raw", str(raw), "--out", str(tmp_path / "out")]
    environment = os.environ | {"GDAL_NUM_THREADS": threads}
    subprocess.run(command, env=environment, timeout=60, check=True)
    assert files_of(tmp_path / "out") == files_of(run(raw, tmp_path / "one" / "out"))


@pytest.mark.slow
def test_folders_where_the_user_works_are_no_modules_of_the_workers(raw, tmp_path):
    for name in ("decur", "pandas", "random"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported')")
    command = [*slow_script(tmp_path), str(raw), str(tmp_path / "out")]
    script = Path(command[1]).rename(tmp_path / "raw" / "slowly.py")
    subprocess.run([sys.executable, str(script), *command[2:]], cwd=tmp_path, check=True)


@pytest.mark.slow
def test_a_script_that_its_workers_would_run_again_ends_in_one_line(raw, tmp_path):
    command = [*slow_script(tmp_path), str(raw), str(tmp_path / "out")]
    script = tmp_path / "slowly.py"
    script.write_text(SLOWLY.replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "put the call below `if __name__ == '__main__':`" in done.stderr
    assert "a worker process died; if it printed no reason above" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out" / "card.json").exists()


def test_no_pool_of_processes_is_made_but_by_the_one_helper():
    package = Path(workers.__file__).parent
    makers = re.compile(r"ProcessPoolExecutor\(|[^.\w]Pool\(|\bProcess\(|get_context\(|os\.fork\(")
    found = {
        str(p.relative_to(package)) for p in package.rglob("*.py") if makers.search(p.read_text())
    }
    assert found == {"workers.py"}


def test_a_full_disk_names_the_folder_and_leaves_nothing_that_looks_whole(
    raw, tmp_path, monkeypatch
):
    append, out = ArrayFile.append, tmp_path / "out"
    written = 0

    def full_later(self: ArrayFile, row: np.ndarray) -> None:
        nonlocal written
        written += 1
        if written > 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(ArrayFile, "append", full_later)
        with pytest.raises(DecurError, match=r"out: cannot be written.*No space left"):
            run(raw, out)
    with pytest.raises(DecurError, match="run the preprocess stage"):
        PairedShards(out)
    parts = out / ".decur" / "parts"
    assert len(list(parts.glob("*.jsonl"))) == len(list(parts.glob("rgb-*.npy"))) == 4
    assert files_of(run(raw, out)) == files_of(run(raw, tmp_path / "whole"))


def test_the_command_says_what_is_wrong_with_shards_and_fails(raw, tmp_path, capsys):
    out = run(raw, tmp_path / "out")
    assert main(["verify", str(out), "--threads", "2"]) == 0
    path = out / "dem-00001.npy"
    flip_bit(path, -1)
    (out / "rgb-00002.npy").unlink()
    capsys.readouterr()
    assert main(["verify", str(out)]) == 1
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 2
    assert f"{path}: is" in told.out and "rgb-00002.npy: is missing" in told.out
    assert "2 faults" in told.err
