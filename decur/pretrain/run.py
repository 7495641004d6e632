"""Run pretraining as a job with one or many tasks, requeued when its time is up.

Only one job at a time may work in a run's folder.
"""

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
    """Pretrain in the process group of the launcher of this process, or alone.

    When warned that its time runs out, a SLURM job with `requeue` asks to be run again.

    Raises:
        DecurError: see `train_run`; or another process works in `out`.
        StoppedError: it was asked to stop, and has saved; also if it will be run again.
    """
    with process_group(), taken_over(out / CLAIM) if is_main() else nullcontext():
        if is_main():
            for folder in (out, out / CHECKPOINTS):
                remove_temporaries(folder)  # left by a killed run, on any machine
        with run_again(requeue, asks=is_main()):
            train_run(settings, shards, out, device=device)
