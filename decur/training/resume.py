"""Save the progress of a job, at intervals and when it is asked to stop, and continue from it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from decur.artifacts.files import remove, remove_temporaries
from decur.artifacts.timing import JobTimer
from decur.cluster.lock import taken_over
from decur.cluster.signals import StoppedError, check_stop, stop_request
from decur.training.checkpoint import load_checkpoint, save_checkpoint

CLAIM = "owner.json"

INTERVAL = 600.0
"""Seconds between two checkpoints."""

State = dict[str, Any]
"""Numbers, text, tensors, and lists and dictionaries of them."""


class Journal:
    """Keep a job's progress: the results of finished parts and the state of the current part.

    `done` holds the results by name; the job reads and fills it. `write` saves a state; without it
    nothing is saved. `found` is the last state that an earlier job saved. `interval` is in seconds.
    """

    def __init__(
        self,
        write: Callable[[State], object] | None = None,
        found: State | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self.done: dict[str, Any] = {} if found is None else found["done"]
        self._found = None if found is None else found["part"]
        self._write, self._interval = write, interval
        self._part: Callable[[], State] | None = None
        self._saved = time.monotonic()

    def begin(self, part: Callable[[], State]) -> State | None:
        """Begin a part and return the state that an earlier job saved for it, or None.

        `part` returns the part's current state at any time. Every resumed job begins the unfinished
        parts in the same order.
        """
        self._part = part
        found, self._found = self._found, None
        return found

    def finish(self, name: str, result: Any) -> None:
        """Append a part's result to the list `done[name]`; the part's state is no longer saved."""
        self.done.setdefault(name, []).append(result)
        self._part = None

    def look(self) -> None:
        """Save if the interval is over.

        Raises:
            StoppedError: the job was asked to stop.
        """
        check_stop()
        if time.monotonic() - self._saved >= self._interval:
            self.save()

    def save(self) -> None:
        """Save now."""
        # The state of a part that an earlier job left is kept until this job begins the part.
        part = self._found if self._part is None else self._part()
        if self._write is not None:
            self._write({"done": self.done, "part": part})
        self._saved = time.monotonic()


@contextmanager
def resumable(
    folder: Path, identity: str, job: JobTimer, interval: float = INTERVAL
) -> Iterator[Journal]:
    """Reserve `folder` for this process within the block, for the checkpoints of its journal.

    Checkpoints of the same `identity` are continued, including the time of `job`. All checkpoints
    are removed when the block is complete. If the job is asked to stop, the block saves at its next
    `look`.

    Raises:
        StoppedError: it was asked to stop, and has saved.
        DecurError: another process works in `folder`, or it cannot be read or written.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with taken_over(folder / CLAIM), stop_request():
            remove_temporaries(folder)
            journal = _found(folder, identity, job, interval)
            try:
                yield journal
            except StoppedError as stopped:
                journal.save()
                raise StoppedError(
                    f"{folder}: {stopped}, and saved; run again to continue", warned=stopped.warned
                ) from None
            discard(folder)
    finally:
        with suppress(OSError):  # a folder is not empty
            for path in new or (folder, folder.parent):
                path.rmdir()


def discard(folder: Path) -> None:
    """Remove checkpoints that are no longer needed; the claim on the folder stays."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name != CLAIM:
            remove(entry)


def _found(folder: Path, identity: str, job: JobTimer, interval: float) -> Journal:
    found = load_checkpoint(folder, identity)
    number = 0
    if found is not None:
        number = found["step"]
        job.go_on_from(found["times"])
        print(f"continuing from checkpoint {number} in {folder}", flush=True)

    def write(state: State) -> None:
        nonlocal number
        number += 1
        known = {"identity": identity, "step": number, "times": job.times()}
        save_checkpoint(folder, number, known | state)

    return Journal(write, found, interval)
