"""Which file the method `released` takes, and when another one makes its runs again."""

import pytest
import yaml

from decur.artifacts.paths import Paths, Run
from decur.config import parse_config, pretrain_settings
from decur.planning.rerun import pretrain_identity
from tests.support import TINY

NAME = "rn50_ssl4eo-s12_joint_decur_ep100.pth"
RUN = Run("sar-optical", "released")


def identity_with(released: str) -> str:
    tree = yaml.safe_load(TINY.read_text())
    tree["scenarios"]["sar-optical"]["pretrain"]["released"] = released
    config = parse_config(tree)
    return pretrain_identity(pretrain_settings(config, RUN), Paths(config.results, config.scale))


def test_a_download_is_known_by_its_name_before_and_after(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = identity_with(NAME)
    folder = tmp_path / "results/tiny/released"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(b"weights")
    assert identity_with(NAME) == before


@pytest.mark.parametrize("name", [NAME, "mine.pth"])
def test_a_file_of_the_users_is_known_by_what_it_holds(tmp_path, name):
    first, second = tmp_path / "a" / name, tmp_path / "b" / name
    for path in (first, second):
        path.parent.mkdir()
        path.write_bytes(b"weights")
    assert identity_with(str(first)) == identity_with(str(second))
    second.write_bytes(b"others")
    assert identity_with(str(first)) != identity_with(str(second))
