"""Wheel and sdist: built, installed into a fresh environment, and what is in them."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import decur

HOME = Path(__file__).parents[2]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
BUILD = "import sys; from setuptools.build_meta import {0}; {0}(sys.argv[1])"


def tracked():
    done = subprocess.run(
        ["git", "-C", str(HOME), "ls-files"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return {path for path in done.stdout.splitlines() if (HOME / path).is_file()}


def build(kind, source, out):
    """Without a network: the build backend of this environment."""
    command = [sys.executable, "-c", BUILD.format(kind), str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist of the tracked files, and the wheel that was built from the sdist alone."""
    folder = tmp_path_factory.mktemp("built")
    for path in tracked():
        target = folder / "source" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HOME / path, target)
    build("build_sdist", folder / "source", folder)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        file.extractall(folder, filter="data")
    build("build_wheel", folder / sdist.name.removesuffix(".tar.gz"), folder)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_the_sdist_holds_every_file_of_the_repository(built):
    with tarfile.open(built[0]) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    assert tracked() - inside <= {".gitignore"}
    results = {name for name in inside if name.startswith("results")}
    assert results == {"results", "results/README.md"}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as file:
        names = set(file.namelist())
    package = {path for path in tracked() if path.startswith("decur/")}
    assert {name for name in names if ".dist-info/" not in name} == package
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert built[1].name == f"decur-{decur.__version__}-py3-none-any.whl"


@pytest.mark.slow
def test_the_wheel_is_enough_for_library_and_command_line(built, tmp_path):
    """In a fresh environment, which sees the dependencies of this one but not this checkout."""
    fresh = tmp_path / "env"
    venv.create(fresh, with_pip=False)
    python = fresh / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(built[1])], check=True)
    paths = {"base": str(fresh), "platbase": str(fresh)}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command):
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, cwd=tmp_path, env=clean
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run(
        python, "-c", "import decur.losses.decur, decur.tables.paper; print(decur.__file__)"
    )
    assert Path(where.strip()).is_relative_to(fresh)
    assert run(fresh / "bin" / "decur", "--version").strip() == decur.__version__
    assert "doctor" in run(fresh / "bin" / "decur", "--help")
    assert "properties" in run(fresh / "bin" / "decur", "schema")


def test_the_version_is_in_one_place():
    """But for the changelog, whose newest version it is."""
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "decur.__version__"}
    newest = re.search(r"^## \[(\d.*?)\]", (HOME / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest[1] == decur.__version__


def test_the_library_imports_nothing_that_is_of_an_extra():
    """Snakemake and submitit are imported where they are needed, if at all."""
    extras = {"snakemake", "submitit", "pytest", "transformers", "pygments", "psutil"}
    for path in (HOME / "decur").rglob("*.py"):
        found = re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE)
        assert not extras & set(found), path


@pytest.mark.parametrize("path", ["Dockerfile", "containers/decur.def"])
def test_images_are_built_from_the_pinned_requirements(path):
    text = (HOME / path).read_text()
    assert "--requirement /opt/decur/requirements.lock" in text
    assert "--no-deps /opt/decur" in text


def test_users_of_the_image_have_a_name_and_a_home_that_they_can_write():
    """`docker run --user 12345`: a number that the image has no name for."""
    lines = (HOME / "Dockerfile").read_text().splitlines()
    (settings,) = (dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines if line[:4] == "ENV ")
    assert settings["USER"] and settings["LOGNAME"]
    assert f"RUN mkdir --mode=1777 {settings['HOME']}" in lines


@pytest.mark.parametrize("given", [{}, {"HOME": "/nonexistent"}, {"HOME": "", "USER": "me"}])
def test_users_of_apptainer_have_a_name_and_a_home_that_they_can_write(tmp_path, given):
    text = (HOME / "containers" / "decur.def").read_text()
    script = text.partition("%environment\n")[2].partition("\n%")[0]
    script += '\necho "$HOME $USER $LOGNAME"'
    command = ["sh", "-euc", script]
    given = given | {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
        home, user, name = done.stdout.split()
        assert home == f"{tmp_path}/decur-{os.getuid()}" and Path(home).is_dir()
    assert user == name == given.get("USER", "decur")


def test_a_home_that_apptainer_mounts_is_kept(tmp_path):
    text = (HOME / "containers" / "decur.def").read_text()
    script = text.partition("%environment\n")[2].partition("\n%")[0] + '\necho "$HOME"'
    given = {"HOME": str(tmp_path)}
    found = subprocess.run(["sh", "-euc", script], env=given, capture_output=True, text=True)
    assert found.stdout == f"{tmp_path}\n"
