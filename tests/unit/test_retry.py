"""One policy counts the tries of a URL and the pauses between them, whatever fails."""

import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from decur.datasets import Part
from decur.download import retry
from decur.download.fetch import FetchError, fetch, fetch_all
from decur.download.progress import ByteCounter
from tests.support.http_server import BODY, NAME, part


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", 0.01)


class Pauses(threading.Event):
    """A stop that records for how long a transfer would wait, and does not wait."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def wait(self, timeout=None):
        self.seconds.append(timeout)
        return self.is_set()


def pauses(folder: Path, wanted: Part) -> list[float]:
    """Return the seconds of each pause of a transfer, whether or not it ends well."""
    counter = ByteCounter("download", None)
    counter.stop = Pauses()
    try:
        fetch(wanted, folder, counter)
    except FetchError:
        pass
    finally:
        counter.close()
    return counter.stop.seconds


@pytest.mark.parametrize("status", ["429", "500", "503", "408"])
def test_a_busy_server_is_asked_again(server, tmp_path, status):
    server.serve(NAME, BODY, fault=status, times=3)
    assert pauses(tmp_path, part(server)) == pytest.approx([0, 0.02, 0.04])
    assert (tmp_path / NAME).read_bytes() == BODY
    assert len(server.gets(NAME)) == 4


@pytest.mark.parametrize("fault", ["500", "drop", "close", "503 drop close"])
def test_the_tries_are_counted_and_delayed_alike_whatever_fails(server, tmp_path, fault):
    """A busy server, a connection that breaks in a body, before an answer, or all in turn."""
    server.serve(NAME, BODY, fault=fault, times=99)
    assert pauses(tmp_path, part(server)) == pytest.approx([0, 0.02, 0.04, 0.08, 0.16])
    assert len(server.gets(NAME)) == retry.TRIES
    assert not (tmp_path / NAME).exists()


def test_new_bytes_begin_the_count_anew(server, tmp_path):
    server.serve(NAME, BODY, fault="drop 503 503 503", times=16, drop_after=50_000)
    assert pauses(tmp_path, part(server)) == pytest.approx([0, 0.02, 0.04, 0.08] * 4)
    assert (tmp_path / NAME).read_bytes() == BODY


def test_no_pause_is_over_a_minute(server, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", 20)
    server.serve(NAME, BODY, fault="500", times=99)
    assert pauses(tmp_path, part(server)) == [0, 40, 60, 60, 60]


@pytest.mark.parametrize("status", ["429", "500", "503"])
def test_a_server_may_ask_for_a_pause(server, tmp_path, status):
    server.serve(NAME, BODY, fault=status, headers={"Retry-After": "100"})
    assert pauses(tmp_path, part(server)) == [100]
    assert (tmp_path / NAME).read_bytes() == BODY


def test_a_server_may_ask_for_a_pause_until_a_date(server, tmp_path):
    until = formatdate(time.time() + 100, usegmt=True)
    server.serve(NAME, BODY, fault="503", headers={"Retry-After": until})
    assert pauses(tmp_path, part(server)) == [pytest.approx(100, abs=5)]


def test_a_pause_that_cannot_be_understood_is_ignored(server, tmp_path):
    server.serve(NAME, BODY, fault="503", times=3, headers={"Retry-After": "soon"})
    assert pauses(tmp_path, part(server)) == pytest.approx([0, 0.02, 0.04])


def test_the_pause_is_kept(server, tmp_path):
    server.serve(NAME, BODY, fault="429", headers={"Retry-After": "1"})
    begin = time.monotonic()
    fetch_all([part(server)], tmp_path)
    assert time.monotonic() - begin >= 1


def test_a_server_that_asks_for_a_day_is_left(server, tmp_path):
    server.serve(NAME, BODY, fault="429", times=99, headers={"Retry-After": "86400"})
    with pytest.raises(FetchError, match="86400"):
        fetch_all([part(server)], tmp_path)
    assert len(server.gets(NAME)) == 1


def test_one_part_that_fails_ends_the_pauses_of_the_others(server, tmp_path):
    server.serve("busy.bin", BODY, fault="503", headers={"Retry-After": "300"})
    server.serve(NAME, BODY, pause=0.02, fault="wrong", times=99)
    begin = time.monotonic()
    with pytest.raises(FetchError, match=NAME):
        fetch_all([part(server, name="busy.bin"), part(server)], tmp_path)
    assert time.monotonic() - begin < 60
