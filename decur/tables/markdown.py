"""A page of results as Markdown."""

import re
from collections.abc import Sequence

from decur.tables.pages import Cell, Page, Table

TAG = re.compile("<(?!/?sup>)")
"""What may begin a tag that is none of ours: the name of a sample comes from a raw file."""


def as_markdown(page: Page) -> str:
    """The whole page; the lines of a cell are parted by `<br>`."""
    body = [as_table(part) if isinstance(part, Table) else part for part in page.body]
    return "\n\n".join([f"# {page.title}", page.caption, page.scale, *body]) + "\n"


def as_table(table: Table) -> str:
    """One table of a page."""
    marks = [":--", *[":-:"] * (len(table.head) - 1)]
    rule = f"| {' | '.join(marks)} |"
    return "\n".join([_line(table.head), rule, *map(_line, table.lines)])


def _line(cells: Sequence[Cell]) -> str:
    safe = ([TAG.sub("&lt;", part) for part in cell] for cell in cells)
    texts = ("<br>".join(parts).replace("|", "\\|") for parts in safe)
    return f"| {' | '.join(texts)} |"
