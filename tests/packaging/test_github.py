"""The files of GitHub and of pre-commit: valid, and in step with the Makefile and the package."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

HOME = Path(__file__).parents[2]
FORMS = sorted((HOME / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
WORKFLOW = yaml.safe_load((HOME / ".github" / "workflows" / "test.yml").read_text())


def test_the_workflow_covers_the_versions_of_python_that_the_package_names():
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert WORKFLOW["jobs"]["quick"]["strategy"]["matrix"]["python"] == named
    assert project["requires-python"].startswith(f">={named[0]}")


def test_what_the_workflow_runs_exists():
    makefile = (HOME / "Makefile").read_text()
    commands = [
        step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step
    ]
    assert commands
    for command in commands:
        program, *targets = command.split()
        if program == "make":
            assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in targets)
        else:
            assert (HOME / program).is_file()


def test_the_workflow_may_only_read():
    assert WORKFLOW["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_asks_for(path):
    """Name, description and fields; each field but plain text has an own id and a label."""
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert fields and len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in fields)


def test_pre_commit_runs_the_commands_of_make_check():
    (repository,) = yaml.safe_load((HOME / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    make = ["make", "--directory", str(HOME), "--no-print-directory", "--dry-run"]
    assumed = "--assume-old=.venv/bin/.installed"
    done = subprocess.run([*make, assumed, "check"], capture_output=True, text=True, check=True)
    assert [hook["entry"] for hook in repository["hooks"]] == done.stdout.splitlines()
