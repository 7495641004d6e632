"""What a pretraining run tells of each step: a line of JSON, TensorBoard, on demand W&B."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from decur.distributed import is_main
from decur.errors import DecurError


class StepLog:
    """One JSON line a step, and the same to TensorBoard; a resumed run drops what it redoes.

    Only the first rank writes. Where the environment names a `WANDB_PROJECT`, Weights & Biases
    follows the TensorBoard, in one run however often it is resumed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._wandb = None
        if not is_main():
            return
        path = folder / "log.jsonl"
        kept = []
        if step and path.is_file():
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] < step]
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        if "WANDB_PROJECT" in os.environ:
            self._wandb = _follow_tensorboard(folder)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one step."""
        if not is_main():
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both files."""
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
    name = "/".join(folder.resolve().parts[-4:])
    run_id = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return wandb.init(name=name, id=run_id, resume="allow", dir=str(folder), sync_tensorboard=True)
