"""Users without a name, without a home folder, or with one that cannot be written."""

import getpass
import os
import stat
import tempfile
from pathlib import Path

import pytest

from decur.cluster import user
from decur.cluster.user import STAND_IN, home_folder, provide_user
from decur.planning import doctor

VARIABLES = ("HOME", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", STAND_IN)
NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user number without an entry, without any of the variables; folders of root are closed."""
    # Set first, so that they are as before at the end whatever a test sets.
    for name in {*VARIABLES, *NAMES}:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError("unknown")))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_relative_to(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def test_an_unknown_user_gets_a_name_a_home_and_caches(nobody):
    provide_user()
    assert getpass.getuser() == str(os.getuid())
    home = nobody / "tmp" / f"decur-{os.getuid()}"
    assert os.environ["HOME"] == os.environ[STAND_IN] == str(Path.home()) == str(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert home_folder() is None  # `~` of a path means none that is kept
    provide_user()  # as a job does that inherits all this
    assert os.environ["HOME"] == str(home)
    assert not {"XDG_CACHE_HOME", "MPLCONFIGDIR"} & os.environ.keys()
    finding = doctor.home()
    assert finding.state == "warning" and str(home) in finding.found


@pytest.mark.parametrize("name", ["~", "nonexistent"])
def test_a_folder_named_like_no_home_is_none(nobody, monkeypatch, name):
    (nobody / "~").mkdir()
    if name != "~":
        monkeypatch.setenv("HOME", str(nobody / name))
    provide_user()
    assert os.environ["HOME"].startswith(str(nobody / "tmp"))


def test_a_home_that_cannot_be_written_stays_and_caches_lie_elsewhere(nobody, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    provide_user()
    assert os.environ["HOME"] == str(home_folder()) == "/"
    for variable in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        assert os.environ[variable].startswith(os.environ[STAND_IN])
    assert doctor.home().state == "warning"


def test_who_has_all_that_keeps_it(nobody, monkeypatch):
    monkeypatch.setenv("HOME", str(nobody))
    monkeypatch.setenv("LOGNAME", "me")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(nobody / "settings"))
    before = dict(os.environ)
    provide_user()
    assert os.environ == before
    assert doctor.home() == doctor.Finding("home", "ok", str(nobody))


def test_a_home_that_cannot_be_written_with_caches_that_can_changes_nothing(nobody, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(nobody / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(nobody / "settings"))
    provide_user()
    assert STAND_IN not in os.environ


@pytest.mark.parametrize("theirs", ["link", "file", "open folder"])
def test_what_somebody_else_may_have_put_there_is_not_the_home(nobody, theirs):
    usual = nobody / "tmp" / f"decur-{os.getuid()}"
    if theirs == "link":
        (nobody / "elsewhere").mkdir(mode=0o700)
        usual.symlink_to(nobody / "elsewhere")
    elif theirs == "file":
        usual.touch()
    else:
        usual.mkdir()
        usual.chmod(0o777)
    provide_user()
    home = Path(os.environ["HOME"])
    assert home != usual and user._is_private(home) and home.parent == usual.parent
