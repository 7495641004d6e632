"""Processes that compete for claims, started by test_lock_rivals.py.

`rounds FOLDER COUNT link|no-link`: wait for FOLDER/go-N, claim FOLDER/N, and write what came of it.
`killed FOLDER SECONDS`: fork workers that claim, work and release, and kill them at random times.
"""

import os
import random
import signal
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from decur.cluster.lock import claim, release
from decur.errors import DecurError

PATIENCE = 300
"""Seconds after which a process gives up that was forgotten by a test that was killed."""


def wait_for(path: Path, pause: float) -> None:
    give_up = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > give_up:
            sys.exit(f"{path} never came")
        time.sleep(pause)


def rounds(folder: Path, count: int) -> None:
    """Claim a folder per round, each at the same moment as the others."""
    for number in range(count):
        wait_for(folder / f"go-{number}", 0.0005)
        try:
            claim(folder / str(number) / "owner.json")
            outcome = "won"
        except DecurError as error:
            outcome = f"refused: {error}"
        name = uuid.uuid4().hex  # process numbers recur in other namespaces
        written = folder / str(number) / f"writing-{name}"
        written.write_text(outcome)
        written.rename(written.with_name(f"outcome-{name}"))
    wait_for(folder / "end", 0.005)


def work(folder: Path) -> None:
    """Claim, work for a moment, release, and so on."""
    path = folder / "owner.json"
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        try:
            claim(path)
        except DecurError:
            continue
        os.write(log, f"{os.getpid()} in\n".encode())
        time.sleep(random.random() / 200)
        os.write(log, f"{os.getpid()} out\n".encode())
        release(path)


def start(folder: Path) -> int:
    pid = os.fork()
    if pid == 0:
        random.seed(os.getpid())
        work(folder)
    return pid


def killed(folder: Path, seconds: float, workers: int = 6) -> None:
    """Keep some workers at work, and kill one after another."""
    end = time.monotonic() + seconds
    alive = [start(folder) for _ in range(workers)]
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while alive:
        time.sleep(random.random() / 50)
        pid = alive.pop(random.randrange(len(alive)))
        # Stopped first, so that the log has the end before whatever another does after it.
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        os.write(log, f"{pid} killed\n".encode())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if time.monotonic() < end:
            alive.append(start(folder))


def main(what: str, folder: str, number: str, links: str = "link") -> None:
    if links == "no-link":

        def refuse(*args: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        os.link = refuse  # type: ignore[assignment]
    if what == "rounds":
        rounds(Path(folder), int(number))
    else:
        with suppress(KeyboardInterrupt):
            killed(Path(folder), float(number))


if __name__ == "__main__":
    main(*sys.argv[1:])
