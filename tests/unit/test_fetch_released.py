"""Released files are downloaded by name, and checked as far as their checksum is known."""

import hashlib
from dataclasses import replace

import pytest

from decur.config import released
from decur.config.released import BY_NAME
from decur.download.released import fetch_released
from decur.errors import DecurError

NAME, BODY = "rn50_geonrw_rgb_decur_ep100.pth", b"weights"
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def published(server, monkeypatch):
    monkeypatch.setattr(released, "HOST", server.url)
    server.serve(NAME, BODY)

    def known_as(sha256: str) -> None:
        monkeypatch.setitem(BY_NAME, NAME, replace(BY_NAME[NAME], sha256=sha256, size=len(BODY)))

    return known_as


@pytest.mark.parametrize("known", [DIGEST, DIGEST[:8], ""])
def test_the_file_is_there_and_a_second_time_it_is_not_fetched(server, tmp_path, published, known):
    published(known)
    for _ in range(2):
        path = fetch_released(NAME, tmp_path / "released")
        assert path == tmp_path / "released" / NAME and path.read_bytes() == BODY
    assert len(server.gets(NAME)) == 1


@pytest.mark.parametrize("known", ["0" * 64, "0" * 8])
def test_another_checksum_is_refused(tmp_path, published, known):
    published(known)
    with pytest.raises(DecurError, match=f"{NAME}.*{DIGEST}.*{known}"):
        fetch_released(NAME, tmp_path)


def test_a_name_that_nobody_published_is_refused(tmp_path):
    with pytest.raises(DecurError, match=f"did you mean '{NAME}'"):
        fetch_released("rn50_geonrw_rgb_decur_ep10.pth", tmp_path)
    assert not [*tmp_path.iterdir()]
