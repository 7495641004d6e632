"""Where a product came from: settings, inputs, package version and commit, as one small dict."""

import functools
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import decur
from decur.files import write_atomically


def provenance(
    settings: BaseModel | Mapping[str, Any], inputs: Mapping[str, str]
) -> dict[str, Any]:
    """The record that goes beside a product; `inputs` maps each input's name to its checksum."""
    tree = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else dict(settings)
    return {
        "settings": tree,
        "inputs": dict(inputs),
        "decur": decur.__version__,
        "commit": git_commit(),
    }


@functools.cache
def git_commit() -> str | None:
    """Commit of the checkout the package runs from, with `-dirty` if changed; None elsewhere."""
    folder = Path(decur.__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    text = json.dumps(tree, indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))
