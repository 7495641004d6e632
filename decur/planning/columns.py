"""Lay out rows of text in columns for a terminal, without colours."""

import io
import shutil
from collections.abc import Collection, Iterable, Sequence


def as_columns(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    width: int | None = None,
    *,
    whole: Collection[str] = (),
    right: Collection[str] = (),
) -> str:
    """Return the rows in columns that fit the terminal, or `width` characters.

    Columns whose heads are in `whole` are never folded. Those in `right` are right-aligned.
    """
    from rich import console, table, text

    width = width or shutil.get_terminal_size((120, 24)).columns
    columns = table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        side = "right" if head in right else "left"
        columns.add_column(head, overflow="fold", no_wrap=head in whole, justify=side)  # type: ignore[arg-type]
    for row in rows:
        columns.add_row(*map(text.Text, row))
    output = io.StringIO()
    console.Console(file=output, width=width, color_system=None).print(columns)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())
