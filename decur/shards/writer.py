"""Write shards in one process, one sample at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from decur.errors import DecurError
from decur.shards.assemble import assemble, own_folder, prepare
from decur.shards.part import STAGE, Shard, ShardPart
from decur.shards.sample import Modality, Sample, Spec

SHARD_BYTES, SHARD_SAMPLES = 4 * 2**30, 4096
"""Largest size of a shard over all modalities, and its largest number of samples. A writer keeps
about two kilobytes per sample in memory. A reader keeps one open file per shard and array, so the
full SSL4EO-S12 (1 TB) must not be split into thousands."""


class ShardWriter:
    """Write samples into a shards folder, which replace its earlier content once complete.

    Use as a context manager. `card` is a free-form description (title, licence, classes, origin).
    Only its `ignore` is read: a mask with only that value counts as no label.

    Raises:
        DecurError: an id is duplicated, an array differs from the first sample in shape or dtype,
            or the folder contains foreign files.
    """

    def __init__(
        self, root: Path, modalities: Sequence[Modality], card: Mapping[str, Any] | None = None
    ) -> None:
        self.root = Path(root)
        self.modalities = tuple(modalities)
        self.card = dict(card or {})
        self._ids: set[str] = set()
        self._parts: list[ShardPart] = []
        self._spec = Spec(self.modalities, {})
        self._shard: Shard | None = None

    def __enter__(self) -> Self:
        prepare(self.root, keep=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._close()
                assemble(self.root, self._parts, self._spec, self.card)
        finally:
            if self._shard is not None:
                self._shard.discard()
            own_folder(self.root).discard(STAGE)

    def add(self, sample: Sample) -> None:
        """Append one sample; its arrays are written immediately."""
        if sample.id in self._ids:
            raise DecurError(f"{sample.source or sample.id}: duplicate sample id '{sample.id}'")
        if not self._ids:
            self._spec = Spec.of(sample, self.modalities, self.card.get("ignore"))
        if self._shard is None:
            self._shard = Shard(self.root, len(self._parts), self._spec)
        self._shard.add(sample)
        self._ids.add(sample.id)
        rows = len(self._shard.part.rows)
        if rows * self._spec.sample_bytes >= SHARD_BYTES or rows >= SHARD_SAMPLES:
            self._close()

    def _close(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._parts.append(self._shard.part)
            self._shard = None
