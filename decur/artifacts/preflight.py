"""The record of a preflight job: what it checked on the machine that it ran on."""

from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError

from decur.artifacts.files import write_atomically
from decur.artifacts.provenance import RecordPart, read_json
from decur.errors import DecurError


class Check(RecordPart):
    """One check: its subject, what was found, and what to change if that is not well."""

    subject: str
    state: Literal["ok", "warning", "error"]
    found: str
    remedy: str = ""


class PreflightRecord(RecordPart):
    """The checks of one class of jobs, the machine, and SLURM's job if it was one."""

    job: str
    host: str
    slurm_job: str | None = None
    checks: tuple[Check, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a record.

        Raises:
            DecurError: the file is damaged.
        """
        try:
            return cls.model_validate(read_json(path))
        except ValidationError:
            raise DecurError(f"{path}: holds no record of a preflight job; run it again") from None

    def write(self, path: Path) -> None:
        """Write the record in place of an earlier one."""
        text = self.model_dump_json(indent=1, exclude_none=True) + "\n"
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
