"""Start and stop the worker processes that share the work of a stage."""

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
"""Modules that the fork server imports once for all worker processes."""

METHOD = "forkserver"
"""Start method of worker processes. A plain fork of this process would hang: it would wait for the
GDAL threads of this process (GDAL_NUM_THREADS), and a fork does not copy threads."""

LONGEST_FOLDER = 70
"""Maximum length in bytes of the path of a folder with sockets; socket paths are limited to 107."""

SAFE_PATH = "PYTHONSAFEPATH"
"""Environment variable that stops Python from importing modules from the working directory."""


def prepare_workers(count: int) -> None:
    """Start the fork server early, so that it imports modules while this process continues.

    A single worker needs no server. Further calls have no effect.

    Raises:
        DecurError: this process is a worker that runs the caller's script again.
    """
    if count == 1:
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise DecurError(
            "a worker process runs this script again and reaches the call that started the worker; "
            "put the call below `if __name__ == '__main__':`, or use one worker"
        )
    multiprocessing.get_context(METHOD).set_forkserver_preload(PRELOADED)
    _choose_folder_of_sockets()
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"  # the working directory may contain a folder named like a module
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


def _choose_folder_of_sockets() -> None:
    """Choose a folder for the server's socket whose path is short enough, whatever `TMPDIR` is."""
    chosen = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_FOLDER:
        tempfile.tempdir = "/tmp"  # safe: multiprocessing creates a private folder in it
    try:
        util.get_temp_dir()  # multiprocessing keeps the result of the first call
    finally:
        tempfile.tempdir = chosen


@contextmanager
def worker_pool(count: int, name: str) -> Iterator[ProcessPoolExecutor]:
    """Provide a pool of `count` processes for the dataset `name`; tasks must be picklable.

    Tasks that have not started are cancelled when the block ends. Workers end with this process,
    even if it is killed.

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
                f"{name}: a worker process died; if it printed no reason above, it may have been "
                "killed for lack of memory: run again with fewer threads or more memory"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Prepare a worker, so that it ends when the main process is killed."""
    gc.freeze()  # garbage collection would write to the pages shared with the server, and copy them

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
