"""Report each step of a pretraining run: progress bar, JSON lines, TensorBoard, optionally W&B."""

import hashlib
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from decur.artifacts.ownership import write_ours
from decur.artifacts.paths import WEIGHTS, identify
from decur.artifacts.step_log import is_log, read_log
from decur.cluster.progress import progress_bar
from decur.distributed import is_main
from decur.errors import DecurError
from decur.training.checkpoint import CHECKPOINTS
from decur.training.prefetch import bring_back


class Taken(NamedTuple):
    """A step that was started on the device and may still be running."""

    step: int
    samples: str
    terms: Callable[[], dict[str, float]]
    values: dict[str, float]


class Progress:
    """Follow the steps of a run: check, log and show each step once the device has finished it.

    `pairs` and `images` are counts per step, for the rates. `stopping` is true once a settled step
    carries some rank's request to stop.
    """

    def __init__(
        self, out: Path, title: str, *, start: int, total: int, pairs: int, images: int
    ) -> None:
        self.out, self._pairs, self._images = out, pairs, images
        self._log = StepLog(out, start)
        if is_main():
            print(f"{title}: from step {start} to {total}", flush=True)
        self._bar = progress_bar(title, total, initial=start, disable=not is_main())
        self._taken: deque[Taken] = deque()
        self._started = time.perf_counter()
        self.stopping = False

    def close(self) -> None:
        """Leave the bar as it is, and close the logs."""
        self._bar.close()
        self._log.close()

    def take(
        self,
        step: int,
        samples: str,
        terms: Mapping[str, Tensor],
        values: dict[str, float],
        stop: Tensor,
    ) -> None:
        """Follow a step: terms and stop flag that the device still computes, and known values.

        `samples` lists some samples of its batch, for the error message if its loss is not finite.
        """
        self._taken.append(Taken(step, samples, bring_back({**terms, "stop": stop}), values))

    def settle(self, behind: int) -> list[dict[str, float]]:
        """Wait for all steps but the last `behind`; return the logged values of each.

        Raises:
            DecurError: a loss is not finite.
        """
        return [self._settle(self._taken.popleft()) for _ in range(len(self._taken) - behind)]

    def _settle(self, taken: Taken) -> dict[str, float]:
        terms = taken.terms()
        self.stopping |= terms.pop("stop") > 0
        if not math.isfinite(terms["loss"]):
            raise DecurError(
                f"{self.out}: loss is {terms['loss']} at step {taken.step} (samples "
                f"{taken.samples}, ...); lower the learning rate; the last good checkpoint is in "
                f"{self.out / CHECKPOINTS}"
            )
        seconds, self._started = time.perf_counter() - self._started, time.perf_counter()
        values = {**terms, **taken.values, "pairs_per_s": self._pairs / seconds}
        self._log.write(taken.step, values)
        shown = {name: f"{term:.4g}" for name, term in terms.items()}
        self._bar.set_postfix({**shown, "images/s": f"{self._images / seconds:.0f}"}, refresh=False)
        self._bar.update()
        return values


class StepLog:
    """Write one JSON line per step, and the same values to TensorBoard.

    A resumed run removes the lines of the steps that it repeats. Only the first rank writes. If the
    environment sets `WANDB_PROJECT`, Weights & Biases mirrors TensorBoard, in one W&B run even if
    the job is resumed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._wandb = None
        if not is_main():
            return
        path = folder / "log.jsonl"
        kept = [line for line in read_log(path) if line["step"] < step]
        text = "".join(f"{json.dumps(line)}\n" for line in kept)
        write_ours(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), is_log)
        self._file = path.open("a", encoding="utf-8")
        if "WANDB_PROJECT" in os.environ:
            self._wandb = _follow_tensorboard(folder)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append the values of one step."""
        if not is_main():
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both logs."""
        if is_main():
            self._file.close()
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def _follow_tensorboard(folder: Path) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise DecurError(
            "WANDB_PROJECT is set, but wandb is not installed: pip install wandb, or unset it"
        ) from error
    place = identify(folder.resolve() / WEIGHTS)
    name = folder.name if place is None else place.identity.get("run", folder.name)
    run_id = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return wandb.init(name=name, id=run_id, resume="allow", dir=str(folder), sync_tensorboard=True)
