"""Write the index of a shards folder: a Parquet file of one row per sample, shard by shard."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = Mapping[str, Any]


class IndexWriter:
    """Write rows in groups; `counts` are the rows written so far, by split.

    Args:
        path: the file.
        groups: all groups of rows, to find the columns and their types.
    """

    def __init__(self, path: Path, groups: Iterable[Sequence[Row]]) -> None:
        self._schema = pa.unify_schemas(
            [_table(rows).schema for rows in groups if rows], promote_options="permissive"
        )
        self._file = pq.ParquetWriter(path, self._schema)
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, rows: Sequence[Row]) -> None:
        """Write a group of rows."""
        if rows:
            columns = {name: [row.get(name) for row in rows] for name in self._schema.names}
            self._file.write_table(pa.table(columns, schema=self._schema))
            self.counts.update(row["split"] for row in rows)


def samples_checksum(checksums: Iterable[str]) -> str:
    """Compute the id of the data in a folder: a digest of all sample checksums, in order."""
    digest = hashlib.sha256()
    for checksum in checksums:
        digest.update(checksum.encode())
    return digest.hexdigest()[:16]


def _table(rows: Sequence[Row]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})
