"""A page of results as Markdown."""

from collections.abc import Sequence

from decur.tables.pages import Cell, Page, Table


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
    texts = ("<br>".join(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"
