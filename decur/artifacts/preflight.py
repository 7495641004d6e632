"""Read and write the records of preflight jobs, which check the machines of the real jobs."""

from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError

from decur.artifacts.files import write_atomically
from decur.artifacts.provenance import RecordPart, read_json
from decur.errors import DecurError


class Check(RecordPart):
    """One check: its subject, its state, the finding, and a remedy if there is a problem."""

    subject: str
    state: Literal["ok", "warning", "error"]
    found: str
    remedy: str = ""


class PreflightRecord(RecordPart):
    """Results of the preflight job of one class of jobs: its machine, SLURM job and checks."""

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
            raise DecurError(
                f"{path}: is not the record of a preflight job; run the job again"
            ) from None

    def write(self, path: Path) -> None:
        """Write the record; replace an earlier one."""
        text = self.model_dump_json(indent=1, exclude_none=True) + "\n"
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
