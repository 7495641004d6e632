"""A finished run leaves weights and no checkpoints, and is not trained again."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from decur.artifacts import files
from decur.artifacts.files import UnreadableError
from decur.pretrain.loop import train_run
from decur.training.checkpoint import CHECKPOINTS
from tests.support.pretraining import log, settings, tensors, train_until
from tests.support.ranks import joined, on_two_ranks
from tests.support.stopping import KilledError, at_call, kill

WEIGHTS = "weights.safetensors"
LAST = "checkpoint-00000006.pt"


def checkpoints(out: Path) -> list[str]:
    return sorted(path.name for path in (out / CHECKPOINTS).rglob("*.pt"))


def link(out: Path) -> Path:
    (found,) = (out / CHECKPOINTS).glob("finished-*.safetensors")
    return found


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended with equal tensors."""
    ours, theirs = tensors(one), tensors(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def fail(number: int) -> Callable[..., None]:
    """A call of the file system that does not succeed."""

    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return failing


@pytest.fixture
def finished(shards_root, tmp_path):
    """The folder of a finished run."""
    train_run(settings(), shards_root, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def steps(monkeypatch):
    """One entry per batch that is read, from now on."""
    return at_call(monkeypatch, ["decur.pretrain.loop.read_batch"], 0, kill)


def test_checkpoints_give_way_to_a_link_of_the_weights(finished):
    assert checkpoints(finished) == []
    assert link(finished).samefile(finished / WEIGHTS)
    assert not [*finished.rglob(".*.decur")]


@pytest.mark.parametrize("deleted", [True, False])
def test_a_finished_run_gives_the_same_bytes_without_training(
    shards_root, finished, steps, deleted
):
    """Deleted, as Snakemake does with what it has not recorded as finished."""
    weights, lines, long_ago = finished / WEIGHTS, log(finished), 10**9
    before = weights.read_bytes()
    os.utime(weights, ns=(long_ago, long_ago))
    if deleted:
        weights.unlink()
    assert train_run(settings(checkpoint_steps=1), shards_root, finished) == weights
    assert not steps
    assert weights.read_bytes() == before
    assert log(finished) == lines
    assert weights.stat().st_mtime_ns > long_ago  # or Snakemake would call it outdated for ever
    assert link(finished).samefile(weights)
    assert not [*finished.rglob(".*.decur")]


@pytest.mark.parametrize("place", ["loop.keep_finished", "finished.remove_checkpoints"])
def test_a_run_killed_while_it_finishes_loses_nothing(
    shards_root, tmp_path, monkeypatch, finished, place
):
    """Before the link is made, and before the checkpoints are removed."""
    out = tmp_path / "killed"
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        at_call(patch, [f"decur.pretrain.{place}"], 1, kill)
        train_run(settings(), shards_root, out)
    assert LAST in checkpoints(out)
    (out / WEIGHTS).unlink()
    steps = at_call(monkeypatch, ["decur.pretrain.loop.read_batch"], 0, kill)
    train_run(settings(), shards_root, out)
    assert not steps
    assert same(out, finished)
    assert checkpoints(out) == []


def test_other_settings_take_no_link_and_leave_it(shards_root, tmp_path, finished, steps):
    first, before = link(finished), (finished / WEIGHTS).read_bytes()
    train_run(settings(seed=2), shards_root, finished)
    train_run(settings(seed=2), shards_root, tmp_path / "fresh")
    assert same(finished, tmp_path / "fresh")
    assert first.read_bytes() == before
    assert checkpoints(finished) == []
    train_until(3, settings(seed=3), shards_root, finished)
    unfinished = checkpoints(finished)
    steps.clear()
    train_run(settings(), shards_root, finished)  # changed back
    assert not steps
    assert (finished / WEIGHTS).read_bytes() == before
    assert checkpoints(finished) == unfinished != []


def test_checkpoints_of_other_settings_outlive_the_end(shards_root, tmp_path, finished):
    out = tmp_path / "shared"
    for seed in (2, 1):
        train_until(3, settings(seed=seed), shards_root, out)
    train_run(settings(), shards_root, out)
    assert same(out, finished)
    kept = [*(out / CHECKPOINTS).rglob("*.pt")]
    identities = {torch.load(path, weights_only=True)["identity"][:16] for path in kept}
    assert identities == {path.parent.name for path in kept}
    assert len(identities) == 1


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def replace(path: Path) -> None:
    """By weights of another run, as `cp` does: through the link."""
    shutil.copyfile(path.parents[2] / "other" / WEIGHTS, path)


@pytest.mark.parametrize("spoil", [damage, replace])
def test_a_spoilt_link_is_not_used(shards_root, tmp_path, finished, capsys, spoil):
    for name, seed in (("fresh", 1), ("other", 2)):
        train_run(settings(seed=seed), shards_root, tmp_path / name)
    (finished / WEIGHTS).unlink()
    spoil(link(finished))
    train_run(settings(), shards_root, finished)
    assert "not used" in capsys.readouterr().out
    assert same(finished, tmp_path / "fresh")
    assert link(finished).samefile(finished / WEIGHTS)


def test_an_io_error_is_not_damage(shards_root, finished, monkeypatch):
    (finished / WEIGHTS).unlink()
    monkeypatch.setattr(files, "PAUSES", ())
    monkeypatch.setattr("decur.artifacts.records.safetensors.safe_open", fail(errno.EIO))
    monkeypatch.setattr(files, "_read_through", fail(errno.EIO))
    with pytest.raises(UnreadableError, match="finished-"):
        train_run(settings(), shards_root, finished)
    assert link(finished).is_file()


def test_without_hard_links_the_last_checkpoint_is_kept(
    shards_root, tmp_path, finished, monkeypatch
):
    monkeypatch.setattr(os, "link", fail(errno.EPERM))
    out = tmp_path / "without"
    train_run(settings(), shards_root, out)
    assert [path.name for path in (out / CHECKPOINTS).iterdir()] == [LAST]
    (out / WEIGHTS).unlink()
    steps = at_call(monkeypatch, ["decur.pretrain.loop.read_batch"], 0, kill)
    train_run(settings(), shards_root, out)
    assert not steps
    assert same(out, finished)


def test_a_folder_moved_to_where_there_are_no_hard_links_is_still_finished(
    shards_root, finished, monkeypatch, steps
):
    before = (finished / WEIGHTS).read_bytes()
    (finished / WEIGHTS).unlink()
    monkeypatch.setattr(os, "link", fail(errno.EPERM))
    train_run(settings(), shards_root, finished)
    assert not steps
    assert (finished / WEIGHTS).read_bytes() == link(finished).read_bytes() == before


def with_an_old_listing(rank: int, port: int, shards_root: str, out: str) -> None:
    """A rank of a finished run; the second one's file system does not show it the link yet."""
    if rank == 1:
        is_file = Path.is_file

        def seen(self: Path) -> bool:
            return self.parent.name != CHECKPOINTS and is_file(self)

        Path.is_file = seen  # type: ignore[method-assign,assignment]
    with joined(rank, port), pytest.MonkeyPatch.context() as patch:
        at_call(patch, ["decur.pretrain.loop.read_batch"], 1, kill)
        train_run(settings(), Path(shards_root), Path(out))


@pytest.mark.slow
def test_ranks_agree_that_a_run_is_finished(shards_root, finished):
    before = (finished / WEIGHTS).read_bytes()
    (finished / WEIGHTS).unlink()
    on_two_ranks(with_an_old_listing, str(shards_root), str(finished))
    assert (finished / WEIGHTS).read_bytes() == before
