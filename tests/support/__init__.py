"""Helpers that several test modules share."""

from pathlib import Path

HOME = Path(__file__).parents[2]
"""The root of the repository."""

TINY = HOME / "tests" / "workflow" / "tiny.yaml"
"""The smallest configuration of every stage."""
