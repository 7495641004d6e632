"""Processes that share the work of a stage: how they are started, and how they end."""

import gc
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, util

from decur.errors import DecurError

PRELOADED = ["decur.preprocess.run", "decur.scenes.draw"]
"""Modules that the server of worker processes imports once, for all of them."""

METHOD = "forkserver"
"""How worker processes start. A fork of this process would wait for ever for the threads that GDAL
has started here (GDAL_NUM_THREADS), which a fork does not copy."""

LONGEST_FOLDER = 70
"""Bytes of the path of a folder that sockets can lie in: theirs may have 107."""

SAFE_PATH = "PYTHONSAFEPATH"
"""With this variable, Python imports nothing from the folder in which it was started."""


def prepare_workers(count: int) -> None:
    """Start the server of worker processes, so that it imports while this process goes on.

    A single worker needs none. Calling it again changes nothing.

    Raises:
        DecurError: this process is a worker that reads the caller's script again.
    """
    if count == 1:
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise DecurError(
            "a worker process reads this script again and meets the call that started it; put "
            "the call below `if __name__ == '__main__':`, or ask for one worker"
        )
    multiprocessing.get_context(METHOD).set_forkserver_preload(PRELOADED)
    _choose_folder_of_sockets()
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"  # the working directory may hold a folder named like a module
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


def _choose_folder_of_sockets() -> None:
    """Let the server's socket lie where its path is short enough, whatever `TMPDIR` says."""
    chosen = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_FOLDER:
        tempfile.tempdir = "/tmp"  # the folder made in it is this user's alone
    try:
        util.get_temp_dir()  # which multiprocessing asks once
    finally:
        tempfile.tempdir = chosen


@contextmanager
def worker_pool(count: int, name: str) -> Iterator[ProcessPoolExecutor]:
    """A pool of `count` processes that work on the dataset `name`; its tasks must be picklable.

    Tasks that have not begun are dropped when the block ends. Workers end with this process, even
    if it is killed.

    Raises:
        DecurError: a worker process died.
    """
    prepare_workers(count)
    context = multiprocessing.get_context(METHOD)
    with ProcessPoolExecutor(count, context, initializer=_begin) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise DecurError(
                f"{name}: a worker process died; if it printed no reason above, it was perhaps "
                "killed for its memory: run again with fewer threads or more memory"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Prepare a worker: it ends when the main process is killed and cannot tell it to."""
    gc.freeze()  # a collection would write to, and so copy, all that is shared with the server

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
