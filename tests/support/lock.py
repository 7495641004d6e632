"""Locks of other processes."""

import json
from dataclasses import asdict


def held_by(path, owner):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(owner)))
