"""Render a page as Markdown."""

import re
from collections.abc import Sequence

from decur.tables.pages import Heading, Page, PagePart, Table, TableCell

TAG = re.compile("<(?!/?sup>)")
"""The start of any tag except `<sup>`. It is escaped, as sample names come from raw files."""


def as_markdown(page: Page) -> str:
    """Render the whole page; `<br>` separates the lines of a cell."""
    parts = [f"# {page.title}", page.caption, page.scale, *map(_part, page.body)]
    return "\n\n".join(parts) + "\n"


def as_table(table: Table) -> str:
    """Render one table of a page."""
    marks = [":--", *[":-:"] * (len(table.head) - 1)]
    rule = f"| {' | '.join(marks)} |"
    return "\n".join([_row(table.head), rule, *map(_row, table.rows)])


def _part(part: PagePart) -> str:
    if isinstance(part, Table):
        return as_table(part)
    return part.as_paragraph if isinstance(part, Heading) else part


def _row(cells: Sequence[TableCell]) -> str:
    safe = ([TAG.sub("&lt;", line) for line in cell] for cell in cells)
    texts = ("<br>".join(lines).replace("|", "\\|") for lines in safe)
    return f"| {' | '.join(texts)} |"
