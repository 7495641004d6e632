"""The commands of the README and the documentation, run as they stand, on smaller scenes.

Pages with a worked example of their own have a test of their own.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from decur.cli import command_line
from tests.support import HOME, TINY
from tests.support.released_files import joint, save_checkpoint, their_net

FIRST = ("README.md", "docs/tutorial.md")
PAGES = [
    *FIRST,
    *(f"docs/{n}.md" for n in ("data", "pretraining", "transfer", "explainability", "tables")),
    "docs/weights.md",
    "docs/cluster.md",
]
EVERY_PAGE = sorted(str(p.relative_to(HOME)) for p in (*HOME.glob("*.md"), *HOME.glob("docs/*.md")))
FENCE = re.compile(r"^```(sh|python)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:decur|make) [^`]+)`")


def small_demo() -> dict[str, object]:
    """One scenario of the tiny scale."""
    fewer = {"experiments": ["table1", "factors"], "methods": ["decur", "random"]}
    tree = yaml.safe_load(TINY.read_text()) | fewer
    tree["scenarios"] = {"sar-optical": tree["scenarios"]["sar-optical"]}
    return tree


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository in another folder, with smaller scales and the environment of this test."""
    folder = tmp_path_factory.mktemp("user") / "decur"
    hidden = shutil.ignore_patterns(".*", "results", "*.egg-info", "__pycache__", "_build", "_api")
    shutil.copytree(HOME, folder, ignore=hidden)
    for scale in ("demo", "mini"):
        tree = small_demo() | {"scale": scale}
        (folder / f"config/{scale}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    (folder / ".venv").symlink_to(sys.prefix)
    # As `decur doctor --write-profile` would write it, had this machine a cluster.
    shutil.copytree(folder / "profiles/slurm", folder / "profiles/slurm-site")
    nets = [their_net("resnet18", chans).state_dict() for chans in (2, 13)]
    save_checkpoint(folder / "rn50_ssl4eo-s12_joint_decur_ep100.pth", joint(nets, 512))
    return folder


def tried(command: str) -> str:
    """A command as it is tried: nothing is installed, nothing sent to a cluster."""
    if command.startswith("make test"):  # which runs this
        return ":"
    if command.startswith("make "):
        return command.replace("make ", "make --assume-old=.venv/bin/.installed ", 1)
    if command.startswith("decur submit"):
        command_line().parse_args(shlex.split(command)[1:])
        return ":"
    if "slurm" in command and command.startswith("snakemake"):
        return command.replace("snakemake", "snakemake --dry-run", 1)
    return command


def as_shell(language: str, block: str) -> str:
    if language == "python":
        return f"python - <<'END'\n{block}END"
    lines = block.replace("\\\n", " ").splitlines()
    return "\n".join(tried(line.split("  #")[0]) for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.long] if p == "docs/tutorial.md" else []) for p in PAGES],
)
def test_the_commands_of_a_page_run(checkout: Path, page: str) -> None:
    """In the order of the pages: what one makes, the next may use."""
    blocks = FENCE.findall((HOME / page).read_text())
    if page in FIRST:
        assert blocks
    script = "\n".join(["set -e", *(as_shell(*block) for block in blocks)])
    environment = os.environ | {
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(checkout.parent / "xdg"),
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


def parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a command's verbs by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_what_the_text_names_exists(page: str) -> None:
    """Verbs and flags of `decur`, and targets of `make`."""
    makefile = (HOME / "Makefile").read_text()
    for command in INLINE.findall((HOME / page).read_text()):
        program, *words = command.split()
        if program == "make":
            assert re.search(rf"^{words[0]}:", makefile, flags=re.MULTILINE), command
            continue
        parser = command_line()
        while words and words[0] in parsers(parser):
            parser = parsers(parser)[words.pop(0)]
        flags = {flag for action in parser._actions for flag in action.option_strings}
        assert not parsers(parser) or words[0].startswith("-") or words[0].isupper(), command
        assert {word.split("=")[0] for word in words if word.startswith("-")} <= flags, command
