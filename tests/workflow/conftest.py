"""Snakemake on the real workflow, in a folder of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
TINY = Path(__file__).parent / "tiny.yaml"


def command(folder, *arguments):
    base = [sys.executable, "-m", "snakemake", "--snakefile", HOME / "workflow" / "Snakefile"]
    return [*map(str, [*base, "--directory", folder, "--cores", "2", *arguments])]


def snakemake(folder, *arguments, check=True):
    done = subprocess.run(
        command(folder, *arguments), capture_output=True, text=True, cwd=folder, timeout=900
    )
    if check and done.returncode:
        pytest.fail(done.stdout[-3000:] + done.stderr[-3000:])
    return done


def planned(folder, *arguments):
    """Jobs of a dry run by rule, table rules under their common name."""
    output = snakemake(folder, *arguments, "--dry-run", "--quiet", "rules").stdout
    output = output.rpartition("Job stats:")[2]
    counts = {}
    for rule, count in re.findall(r"^([a-z0-9_]+) +(\d+)$", output, flags=re.MULTILINE):
        name = re.sub(r"^table_.*", "table", rule)
        counts[name] = counts.get(name, 0) + int(count)
    return counts
