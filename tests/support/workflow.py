"""Snakemake on the real workflow, in a folder of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import HOME


def command(folder: Path, *arguments: object) -> list[str]:
    """The command that runs the workflow in a folder."""
    base = [sys.executable, "-m", "snakemake", "--snakefile", HOME / "workflow" / "Snakefile"]
    return [*map(str, [*base, "--directory", folder, "--cores", "2", *arguments])]


def snakemake(
    folder: Path, *arguments: object, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the workflow in a folder; the test fails if that fails, unless `check` is off."""
    done = subprocess.run(
        command(folder, *arguments), capture_output=True, text=True, cwd=folder, timeout=900
    )
    if check and done.returncode:
        pytest.fail(done.stdout[-3000:] + done.stderr[-3000:])
    return done


def planned(folder: Path, *arguments: object) -> dict[str, int]:
    """Jobs of a dry run by rule, transfer and table rules under their common name."""
    output = snakemake(folder, *arguments, "--dry-run", "--quiet", "rules").stdout
    output = output.rpartition("Job stats:")[2]
    counts: dict[str, int] = {}
    for rule, count in re.findall(r"^([a-z0-9_]+) +(\d+)$", output, flags=re.MULTILINE):
        name = re.sub(r"^(transfer|table)_.*", r"\1", rule)
        counts[name] = counts.get(name, 0) + int(count)
    return counts
