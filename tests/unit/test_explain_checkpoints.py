"""An explainer that is stopped or killed goes on from the batches that it has done."""

import json
import os
import signal

import pytest

from decur.cluster.signals import StoppedError
from decur.config import EXPLAINERS
from decur.explain import saliency, spectral
from decur.explain.run import explain
from decur.pretrain.loop import train_run
from tests.support.explaining import explain_settings
from tests.support.pretraining import settings as pretrain_settings
from tests.support.stopping import KilledError, at_call, count_looks, kill

NEVER = 9999
PLACES = {
    "alignment": "decur.explain.alignment.alignment_loss",
    "tsne": "decur.explain.tsne.map_dimensions",
    "gradcam": "decur.explain.gradcam.cam_maps",
    "saliency": "decur.explain.saliency.overlap",
    "spectral": "decur.explain.spectral.attributions",
    "share": "decur.explain.share.augment_batch",
}
"""A function that each explainer calls for every batch."""


@pytest.fixture
def job(shards_root, tmp_path, monkeypatch):
    """Explains a run, in small batches, into a folder; gives the table and the facts."""
    for module in (saliency, spectral):
        monkeypatch.setattr(module, "BATCH", 2)
    base = pretrain_settings(epochs=1)
    weights = train_run(base, shards_root, tmp_path / "run")

    def run(kind, name):
        out = tmp_path / name / f"{kind}.csv"
        run.hidden = out.parent / ".decur"
        explain(kind, explain_settings(kind, base), weights, shards_root, out)
        facts = json.loads(out.with_suffix(".json").read_text())["facts"]
        return out.read_bytes(), facts

    return run


@pytest.mark.parametrize("kind", EXPLAINERS)
def test_an_explainer_killed_again_and_again_ends_the_same(job, monkeypatch, kind):
    whole = job(kind, "whole")
    kills = 0
    while True:
        with monkeypatch.context() as patch:
            count_looks(patch, seconds=1000)
            at_call(patch, [PLACES[kind]], 1 + kills, kill)
            try:
                killed = job(kind, "killed")
                break
            except KilledError:
                kills += 1
    assert kills
    assert killed == whole
    assert not job.hidden.exists()


def test_no_batch_that_was_saved_is_explained_again(job, monkeypatch):
    calls = at_call(monkeypatch, [PLACES["spectral"]], NEVER, kill)
    job("spectral", "whole")
    whole = len(calls)
    with monkeypatch.context() as patch, pytest.raises(StoppedError, match="and saved") as stopped:
        at_call(patch, [PLACES["spectral"]], 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        job("spectral", "stopped")
    assert not stopped.value.warned
    job("spectral", "stopped")
    assert len(calls) == 2 * whole
