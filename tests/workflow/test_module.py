"""The workflow as a module of another one (`tests/workflow/module`), and its place in a catalog."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HOME = Path(__file__).parents[2]
OTHER = Path(__file__).parent / "module" / "workflow" / "Snakefile"
TINY = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
OWN = str(HOME / "workflow" / "Snakefile")


def other_workflow(folder, snakefile=OTHER, prefix=""):
    config = {"decur_snakefile": OWN, "decur": TINY, "prefix": prefix}
    (folder / "workflow").mkdir()
    shutil.copy(snakefile, folder / "workflow" / "Snakefile")
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def snakemake(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_another_workflow_goes_on_from_shards_that_this_one_makes(tmp_path):
    other_workflow(tmp_path, prefix="images/")
    told = snakemake(tmp_path)
    assert re.search(r"^decur_preprocess +1$", told, flags=re.MULTILINE)
    assert int((tmp_path / "count.txt").read_text()) > 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *(".snakemake", "workflow", "config.yaml", "count.txt", "images")
    }


def test_all_of_it_lies_below_the_prefix_of_the_module(tmp_path):
    other_workflow(tmp_path, prefix="images/")
    told = snakemake(tmp_path, "decur_all", "--dry-run", "--printshellcmds")
    commands = re.findall(r"^.*\bdecur [a-z]+ .*$", told, flags=re.MULTILINE)
    assert {"download", "preprocess", "pretrain", "transfer", "explain", "tables", "report"} <= {
        re.search(r"\bdecur (\w+) ", command)[1] for command in commands
    }
    for command in commands:
        assert "results/tiny" in command
        assert not re.search(r"(?<!images/)results/tiny", command)


def test_it_may_be_fetched_from_a_repository(tmp_path):
    repository = tmp_path / "repository"
    for part in ("workflow", "rules", "config"):
        shutil.copytree(HOME / part, repository / part)
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "x"], check=True)
    fetched = f"gitfile({str(repository)!r}, path='workflow/Snakefile', commit='HEAD')"
    other = tmp_path / "Snakefile"
    other.write_text(OTHER.read_text().replace('config["decur_snakefile"]', fetched))
    folder = tmp_path / "other"
    folder.mkdir()
    other_workflow(folder, other)
    told = snakemake(folder, "decur_all", "--dry-run", "--quiet", "rules")
    assert re.search(r"^decur_pretrain +[1-9]", told, flags=re.MULTILINE)


def test_the_catalog_finds_what_it_expects():
    usage = yaml.safe_load((HOME / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    for path in ("workflow/Snakefile", "config/README.md", "README.md", "LICENSE"):
        assert (HOME / path).is_file()


def test_the_readme_of_the_config_tells_of_every_config_and_part():
    page = (HOME / "config" / "README.md").read_text()
    for path in (HOME / "config").glob("*.yaml"):
        assert f"`{path.name}`" in page
    assert all(f"`{key}`" in page for key in TINY)
