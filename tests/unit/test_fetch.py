import errno
import gzip
import hashlib
import time
from pathlib import Path

import numpy as np
import pytest

from decur.artifacts.files import write_all
from decur.datasets import RemoteFile
from decur.download import retry, transfer
from decur.download.fetch import FetchError, fetch_all, size_on_server
from decur.errors import DecurError
from tests.support.http_server import BODY, NAME, Served, Server, part, serving, sha256

OTHER = np.random.default_rng(1).bytes(300_000)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", 0.01)


def names_of_files(folder: Path) -> list[str]:
    """All but the records of what is ours."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".decur")


def get(folder: Path, *parts: RemoteFile) -> list[bytes]:
    """Fetch; nothing but the files may be left."""
    stored = fetch_all(parts, folder)
    assert names_of_files(folder) == sorted(p.name for p in parts)
    return [file.path.read_bytes() for file in stored]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(f"{NAME}.part")}


def ranges(server: Server) -> list[str | None]:
    return [request.headers.get("Range") for request in server.gets(NAME)]


def test_a_file_is_fetched_and_its_checksum_recorded(server, tmp_path):
    server.serve(NAME, BODY)
    (stored,) = fetch_all([part(server, body=None)], tmp_path)
    assert stored.path.read_bytes() == BODY
    assert (stored.size, stored.checksum) == (len(BODY), sha256(BODY))


def test_an_md5_is_checked_as_well(server, tmp_path):
    server.serve(NAME, BODY)
    checksum = f"md5:{hashlib.md5(BODY).hexdigest()}"
    assert get(tmp_path, part(server, checksum=checksum)) == [BODY]
    with pytest.raises(FetchError, match="checksum"):
        fetch_all([part(server, checksum="md5:" + "0" * 32)], tmp_path / "other")


@pytest.mark.parametrize("known", [True, False])
def test_a_dropped_connection_goes_on_where_it_stopped(server, tmp_path, known):
    server.serve(NAME, BODY, fault="drop", times=3, drop_after=70_000)
    assert get(tmp_path, part(server, body=BODY if known else None)) == [BODY]
    assert ranges(server) == [None, "bytes=70000-", "bytes=140000-", "bytes=210000-"]


def test_a_connection_that_falls_silent_is_begun_anew(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", (1, 0.2))
    server.serve(NAME, BODY, fault="stall", drop_after=70_000)
    assert get(tmp_path, part(server)) == [BODY]
    assert ranges(server) == [None, "bytes=70000-"]


def test_a_later_run_goes_on_where_the_last_one_stopped(server, tmp_path):
    served = server.serve(NAME, BODY, fault="drop", times=99, drop_after=0)
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:1000])
    with pytest.raises(FetchError):
        fetch_all([part(server)], tmp_path)
    assert len(server.gets(NAME)) == retry.TRIES
    assert names(tmp_path) == set()
    served.times = 0
    assert get(tmp_path, part(server)) == [BODY]
    assert ranges(server)[-1] == "bytes=1000-"


def test_bytes_that_were_there_are_checked_too(server, tmp_path):
    server.serve(NAME, BODY)
    (tmp_path / f"{NAME}.part").write_bytes(OTHER[:1000])
    assert get(tmp_path, part(server)) == [BODY]
    assert ranges(server) == ["bytes=1000-", None]


def test_more_bytes_than_the_file_has_are_thrown_away(server, tmp_path):
    server.serve(NAME, BODY)
    (tmp_path / f"{NAME}.part").write_bytes(BODY + b"more")
    assert get(tmp_path, part(server)) == [BODY]


def test_a_whole_file_that_lacks_only_its_name_is_not_fetched_again(server, tmp_path):
    server.serve(NAME, BODY)
    (tmp_path / f"{NAME}.part").write_bytes(BODY)
    assert get(tmp_path, part(server)) == [BODY]
    assert len(server.gets(NAME)) == 1


def test_a_server_that_ignores_ranges_sends_the_whole_again(server, tmp_path):
    server.serve(NAME, BODY, ranges=False, fault="drop", drop_after=70_000)
    assert get(tmp_path, part(server)) == [BODY]


def test_a_server_that_always_breaks_and_ignores_ranges_is_given_up(server, tmp_path):
    server.serve(NAME, BODY, ranges=False, fault="drop", times=999, drop_after=70_000)
    with pytest.raises(FetchError):
        fetch_all([part(server)], tmp_path)
    assert len(server.gets(NAME)) <= 2 * retry.TRIES
    assert names(tmp_path) == set()


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changes_in_between_is_not_mixed(server, tmp_path, if_range):
    """Whether or not the server honours If-Range."""
    other = Served(OTHER, etag='"two"', if_range=if_range)
    server.serve(NAME, BODY, fault="drop", drop_after=70_000, then=other)
    assert get(tmp_path, part(server, body=None)) == [OTHER]
    assert ranges(server)[:2] == [None, "bytes=70000-"]
    assert server.gets(NAME)[1].headers["If-Range"] == '"one"'


def test_a_packed_file_stays_packed_whatever_the_server_declares(server, tmp_path):
    packed = gzip.compress(BODY)
    server.serve(NAME, packed, headers={"Content-Encoding": "gzip"})
    assert get(tmp_path, part(server, body=packed)) == [packed]


def test_without_checksum_or_version_nothing_is_resumed(server, tmp_path):
    server.serve(NAME, BODY, etag="W/weak", fault="drop", drop_after=70_000)
    assert get(tmp_path, part(server, body=None)) == [BODY]
    assert ranges(server) == [None, None]


def test_wrong_bytes_are_thrown_away_and_fetched_again(server, tmp_path):
    server.serve(NAME, BODY, fault="wrong", times=1)
    assert get(tmp_path, part(server)) == [BODY]
    assert ranges(server) == [None, None]


def test_wrong_bytes_for_ever_are_never_accepted(server, tmp_path):
    server.serve(NAME, OTHER)
    with pytest.raises(FetchError, match=rf"^{NAME}: .*{server.url}/{NAME}: its checksum is") as e:
        fetch_all([part(server)], tmp_path)
    assert "\n" not in str(e.value)
    assert len(server.gets(NAME)) == transfer.WRONG_TRIES
    assert names(tmp_path) == set()


def test_another_size_than_published_is_refused_before_the_first_byte(server, tmp_path):
    server.serve(NAME, BODY)
    with pytest.raises(FetchError, match="has 300000 bytes, expected 299999"):
        fetch_all([part(server, body=None, size=len(BODY) - 1)], tmp_path)
    assert names(tmp_path) == set()


def test_a_web_page_in_place_of_the_file_is_refused(server, tmp_path):
    server.serve(NAME, b"<html>log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(FetchError, match="gives a web page, not the file"):
        fetch_all([part(server, body=None)], tmp_path)


def test_a_file_of_unknown_size_and_checksum_is_refused(server, tmp_path):
    server.serve(NAME, BODY, length=False)
    with pytest.raises(FetchError, match="does not state the size"):
        fetch_all([part(server, body=None)], tmp_path)
    assert get(tmp_path, part(server)) == [BODY]


def test_a_silently_cut_file_of_unknown_size_is_never_accepted(server, tmp_path):
    server.serve(NAME, BODY, length=False, ranges=False, fault="drop", times=99, drop_after=9000)
    with pytest.raises(FetchError, match="checksum"):
        fetch_all([part(server)], tmp_path)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("status", ["404", "403", "410"])
def test_a_server_without_the_file_is_asked_once(server, tmp_path, status):
    server.serve(NAME, BODY, fault=status, times=99)
    with pytest.raises(FetchError, match=f"HTTP {status}"):
        fetch_all([part(server)], tmp_path)
    assert len(server.gets(NAME)) == 1


def test_no_server_at_all_is_one_clear_line(tmp_path):
    with serving() as server:
        gone = part(server)
    with pytest.raises(FetchError, match="refused") as caught:
        fetch_all([gone], tmp_path)
    assert "\n" not in str(caught.value)


def test_the_next_mirror_goes_on_with_the_bytes_of_the_first(server, tmp_path):
    server.serve(NAME, BODY, fault="drop", times=99, drop_after=0)
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:1000])
    with serving() as second:
        second.serve(NAME, BODY)
        urls = (f"{server.url}/{NAME}", f"{second.url}/{NAME}")
        assert get(tmp_path, part(server, urls=urls)) == [BODY]
        assert ranges(second) == ["bytes=1000-"]


@pytest.mark.parametrize("fault", ["404", "500", "wrong"])
def test_the_next_mirror_stands_in(server, tmp_path, fault):
    server.serve(NAME, BODY, fault=fault, times=99)
    with serving() as second:
        second.serve(NAME, BODY)
        urls = (f"{server.url}/{NAME}", f"{second.url}/{NAME}")
        assert get(tmp_path, part(server, urls=urls)) == [BODY]


def test_several_parts_come_at_once(server, tmp_path):
    parts = [part(server, name=f"{i}.bin") for i in range(4)]
    for p in parts:
        server.serve(p.name, BODY, pause=0.02)
    begin = time.monotonic()
    assert get(tmp_path, *parts) == [BODY] * 4
    one_by_one = 4 * 0.02 * len(BODY) / (1 << 14)
    assert time.monotonic() - begin < 0.7 * one_by_one


def test_one_part_that_fails_stops_the_others_and_keeps_their_bytes(server, tmp_path):
    server.serve("slow.bin", BODY * 20, pause=0.05)
    server.serve(NAME, BODY, fault="404", times=99)
    begin = time.monotonic()
    with pytest.raises(FetchError, match=NAME):
        fetch_all([part(server, name="slow.bin", body=None), part(server)], tmp_path)
    assert time.monotonic() - begin < 10
    assert not (tmp_path / "slow.bin").exists()


def test_what_is_there_is_checked_and_not_fetched(server, tmp_path):
    (tmp_path / NAME).write_bytes(BODY)
    assert get(tmp_path, part(server)) == [BODY]
    assert server.requests == []


def test_what_is_there_but_wrong_may_be_the_users_and_is_left_alone(server, tmp_path):
    server.serve(NAME, BODY)
    (tmp_path / NAME).write_bytes(OTHER)
    with pytest.raises(DecurError, match=r"expected sha256.*; fetch it again or remove it"):
        get(tmp_path, part(server))
    assert (tmp_path / NAME).read_bytes() == OTHER


def test_a_given_file_is_used_where_it_lies(server, tmp_path):
    given, folder = tmp_path / "given", tmp_path / "folder"
    given.mkdir()
    (given / NAME).write_bytes(BODY)
    (stored,) = fetch_all([part(server)], folder, given=given)
    assert stored.path == given / NAME
    assert server.requests == [] and list(folder.iterdir()) == []


def test_a_wrong_given_file_is_named_and_left_alone(server, tmp_path):
    (tmp_path / NAME).write_bytes(OTHER)
    with pytest.raises(DecurError, match=rf"^{tmp_path / NAME}: its checksum is .*fetch it again"):
        fetch_all([part(server)], tmp_path / "folder", given=tmp_path)
    assert (tmp_path / NAME).read_bytes() == OTHER


def test_the_size_is_asked_from_the_first_server_that_knows(server):
    server.serve(NAME, BODY)
    urls = (f"{server.url}/absent", f"{server.url}/{NAME}")
    assert size_on_server(part(server, urls=urls)) == len(BODY)
    server.files[NAME].length = False
    assert size_on_server(part(server)) is None


def test_the_progress_ends_at_the_total(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("decur.cluster.progress.SELDOM", 0)
    server.serve(NAME, BODY, fault="wrong", times=1)
    fetch_all([part(server)], tmp_path, total=len(BODY))
    last = capsys.readouterr().err.split("\r")[-1]
    assert "100%" in last and "300k/300k" in last and "B/s" in last


def test_a_full_disk_is_named_and_a_rerun_goes_on(server, tmp_path, monkeypatch):
    server.serve(NAME, BODY)
    chosen = part(server)

    def full(file, data):
        if file.tell() + len(data) > 200_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "write_all", full)
        with pytest.raises(DecurError, match=r"cannot be written \(No space left"):
            fetch_all([chosen], tmp_path)
    assert not (tmp_path / NAME).exists()
    assert get(tmp_path, chosen) == [BODY]
