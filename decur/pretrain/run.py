"""Pretraining as a job: one task or many, one at a time in its folder, requeued when time is up."""

from contextlib import nullcontext
from pathlib import Path

from decur.artifacts.files import remove_temporaries
from decur.cluster.lock import taken_over
from decur.cluster.requeue import run_again
from decur.config import PretrainSettings
from decur.distributed import is_main, process_group
from decur.pretrain.loop import train_run
from decur.training.checkpoint import CHECKPOINTS
from decur.training.resume import CLAIM


def pretrain(
    settings: PretrainSettings, shards: Path, out: Path, *, device: str, requeue: bool
) -> None:
    """Pretrain in the process group of whatever launched this process, or alone.

    Warned that its time runs out, a SLURM job that may `requeue` asks to be run again.

    Raises:
        DecurError: see `train_run`; or another process works in `out`.
        StoppedError: it was asked to stop, and has saved; also where it will be run again.
    """
    with process_group(), taken_over(out / CLAIM) if is_main() else nullcontext():
        if is_main():
            for folder in (out, out / CHECKPOINTS):
                remove_temporaries(folder)  # of a run that was killed, on whatever machine
        with run_again(requeue, asks=is_main()):
            train_run(settings, shards, out, device=device)
