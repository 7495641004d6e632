"""Which checkpoint is continued, which are kept, and what a failing file system may not do."""

import errno
import io
import os
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decur.artifacts import files
from decur.artifacts.files import read_patiently
from decur.errors import DecurError
from decur.pretrain.loop import train_run
from decur.training.checkpoint import CHECKPOINTS, KEEP, load_checkpoint, save_checkpoint
from tests.support import pretraining
from tests.support.ranks import joined, on_two_ranks

IDENTITIES = ("a" * 64, "b" * 64, "c" * 64)
JOBS = st.lists(
    st.tuples(st.sampled_from(IDENTITIES), st.integers(1, 6), st.sampled_from(["", "tear"])),
    max_size=6,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0))


def state(identity: str, step: int) -> dict[str, object]:
    return {"identity": identity, "step": step, "model": torch.full((3,), float(step))}


def steps_below(folder: Path) -> set[str]:
    return {p.name for p in folder.glob("checkpoint-*.pt")}


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(jobs=JOBS)
def test_each_run_goes_on_from_its_own_newest_checkpoint_whatever_others_left(
    tmp_path_factory, jobs
):
    """Jobs, one after the other, each of some settings, that take some steps and are killed."""
    folder = tmp_path_factory.mktemp("any")
    newest: dict[str, int] = {}
    for identity, count, fault in jobs:
        found = load_checkpoint(folder, identity)
        begun = 0 if found is None else int(found["step"])
        assert begun == newest.get(identity, 0)
        if found is not None:
            assert torch.equal(found["model"], torch.full((3,), float(begun)))
        for step in range(begun + 1, begun + count + 1):
            path = save_checkpoint(folder, step, state(identity, step))
            assert path.is_file()
            own = sorted(steps_below(folder))
            assert path.name == own[-1] and len(own) <= KEEP
        newest[identity] = begun + count
        if fault and count > 1:  # the one before is whole
            path.write_bytes(path.read_bytes()[:200])
            newest[identity] -= 1


def test_a_new_checkpoint_outlives_higher_numbers_of_other_settings(tmp_path):
    for step in (900, 1000):
        save_checkpoint(tmp_path, step, state("old", step))
    for step in (10, 20, 30):  # without a look at the folder first
        assert save_checkpoint(tmp_path, step, state("new", step)).is_file()
    assert load_checkpoint(tmp_path, "new")["step"] == 30
    assert load_checkpoint(tmp_path, "old")["step"] == 1000


def test_those_of_others_do_not_count_among_the_last_two(tmp_path):
    for identity, step in (("a", 10), ("b", 15), ("a", 20), ("b", 25), ("a", 30)):
        save_checkpoint(tmp_path, step, state(identity, step))
    kept = {int(name[11:19]) for name in steps_below(tmp_path)}
    assert kept == {15, 20, 25, 30}


def test_a_run_beside_checkpoints_of_other_settings_gets_past_its_time_limit(
    shards_root, tmp_path, monkeypatch
):
    chosen, other = (pretraining.settings(seed=seed) for seed in (1, 2))
    longer = other.model_copy(update={"epochs": 4})
    pretraining.train_until(11, longer, shards_root, tmp_path / "run")
    train_run(chosen, shards_root, tmp_path / "whole")
    limit = 3
    steps = []

    def until_the_limit(shards, rows, settings, step, *rest):
        steps.append(step)
        if step == steps[0] + limit:
            raise KeyboardInterrupt
        return pretraining.read_batch(shards, rows, settings, step, *rest)

    monkeypatch.setattr("decur.pretrain.loop.read_batch", until_the_limit)
    for _ in range(4):
        steps.clear()
        try:
            train_run(chosen, shards_root, tmp_path / "run")
            break
        except KeyboardInterrupt:
            pass
    else:
        pytest.fail("the run begins anew each time")
    whole, run = (pretraining.tensors(tmp_path / name) for name in ("whole", "run"))
    assert all(torch.equal(whole[name], run[name]) for name in whole)


class Failing(io.FileIO):
    """A file of a file system that fails in the middle of it."""

    def readinto(self, buffer):  # type: ignore[no-untyped-def]
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    read = readinto


@pytest.mark.parametrize("failures", [1, 2, 99])
def test_an_io_error_is_not_damage(tmp_path, monkeypatch, failures):
    path = save_checkpoint(tmp_path, 5, state("a", 5))
    opened, left = Path.open, [failures]

    def open_failing(self: Path, *args: str, **more: object) -> object:
        if self.name == path.name and left[0] and "r" in args[0]:
            left[0] -= 1
            return Failing(self)
        return opened(self, *args, **more)

    monkeypatch.setattr(Path, "open", open_failing)
    if failures < 3:
        assert load_checkpoint(tmp_path, "a")["step"] == 5
    else:
        message = r"checkpoint-00000005\.pt: cannot be read \(Input/output error\)"
        with pytest.raises(DecurError, match=message):
            load_checkpoint(tmp_path, "a")
    assert path.is_file()


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.EMFILE, "ulimit -n"), (errno.EACCES, "Permission denied"), (errno.ESTALE, "tale")],
)
def test_errors_of_the_file_system_are_named_with_a_remedy(tmp_path, number, remedy):
    tries = []

    def read(path: Path) -> None:
        tries.append(path)
        raise OSError(number, os.strerror(number))

    with pytest.raises(DecurError, match=remedy):
        read_patiently(tmp_path / "x", read)
    assert len(tries) == (3 if number == errno.ESTALE else 1)


def with_an_old_listing(rank: int, port: int, shards_root: str, out: str, fault: str) -> None:
    """Two ranks resume; the second one's file system shows it nothing, or fails."""
    if rank == 1:
        glob = Path.glob

        def other(self: Path, pattern: str) -> object:
            if self.name == CHECKPOINTS:
                if fault == "error":
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return iter(())
            return glob(self, pattern)

        Path.glob = other  # type: ignore[method-assign,assignment]
    with joined(rank, port):
        chosen = pretraining.settings(optimizer="adamw", lr=0.001, epochs=3)
        train_run(chosen, Path(shards_root), Path(out))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["old listing", "error"])
def test_ranks_resume_together_whatever_their_file_systems_show(shards_root, tmp_path, fault):
    chosen = pretraining.settings(optimizer="adamw", lr=0.001, epochs=3)
    train_run(chosen, shards_root, tmp_path / "whole")
    before = pretraining.log(tmp_path / "whole")
    pretraining.train_until(8, chosen, shards_root, tmp_path)  # of 9 steps, with a checkpoint there
    on_two_ranks(with_an_old_listing, str(shards_root), str(tmp_path), fault)
    after = pretraining.log(tmp_path)
    assert [line["step"] for line in after] == list(range(9))
    assert after[:8] == before[:8]  # not taken again
    assert after[8]["loss"] == pytest.approx(before[8]["loss"], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    "torn", ['{"step": 4, "lo', '{"step": 4, "inner": {"a": 1}', "\0" * 30, "{}", "[1]", "é\ud800"]
)
def test_a_torn_line_of_the_log_does_not_block_resuming(shards_root, tmp_path, torn):
    train_run(pretraining.settings(), shards_root, tmp_path / "whole")
    pretraining.train_until(5, pretraining.settings(), shards_root, tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:4]) + torn.encode(errors="surrogatepass"))
    train_run(pretraining.settings(), shards_root, tmp_path / "run")
    whole, run = pretraining.log(tmp_path / "whole"), pretraining.log(tmp_path / "run")
    assert run == [line for line in whole if line["step"] in {line["step"] for line in run}]
    assert {line["step"] for line in run} >= {0, 1, 2, 3, 4, 5} - {4}


@pytest.mark.parametrize("name", ["weights.safetensors", "log.jsonl"])
def test_pretraining_refuses_files_of_somebody_else_before_it_trains(shards_root, tmp_path, name):
    (tmp_path / name).write_text("a diary")
    with pytest.raises(DecurError, match=re.escape(name)):
        train_run(pretraining.settings(), shards_root, tmp_path)
    assert (tmp_path / name).read_text() == "a diary"
    assert not (tmp_path / CHECKPOINTS).exists()
