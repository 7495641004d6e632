"""Locks of other processes."""

import json
from dataclasses import asdict
from pathlib import Path

from decur.cluster.lock import Owner


def held_by(path: Path, owner: Owner) -> None:
    """Write the lock of an owner, as that owner would."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(owner)))
