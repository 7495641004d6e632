r"""Render a page as LaTeX, to `\input` into a document that loads `booktabs`.

Each table is one tabular, with its notes below. Title and caption are comments, since a paper has
its own.
"""

from collections.abc import Sequence
from itertools import groupby

from decur.tables.markup import spans
from decur.tables.pages import Heading, Page, PagePart, Table, TableCell

COMMANDS = {"bold": "textbf", "code": "texttt", "superscript": "textsuperscript"}

ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # at the start of a line, it would be an argument of the previous line break
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "≥": r"$\geq$",
    }
)
LONG = 40
"""Longest cell in characters whose column does not break lines."""


def as_latex(page: Page) -> str:
    """Render tables and notes in the page's order, then the note on the scale."""
    comments = [f"% {' '.join(text.split())}" for text in (page.title, page.caption)]
    parts = map(_part, (*page.body, page.scale))
    return "\n".join([*comments, "\n\\par\\medskip\n".join(parts)]) + "\n"


def written(text: str) -> str:
    """Convert a page's text to LaTeX: marks become commands, and all other text is escaped."""
    return "".join(
        span.translate(ESCAPES)
        if isinstance(span, str)
        else f"\\{COMMANDS[span.mark]}{{{written(span.text)}}}"
        for span in spans(text)
    )


def _part(part: PagePart) -> str:
    if isinstance(part, Table):
        return _table(part)
    return _note(part.as_paragraph if isinstance(part, Heading) else part)


def _note(text: str) -> str:
    return f"{{\\footnotesize\\raggedright {written(text)}\\par}}"


def _table(table: Table) -> str:
    columns = "".join(map(_column, range(len(table.head)), zip(*table.rows, strict=True)))
    body = [_row(cells) for cells in table.rows]
    several_lines = any(len(cell) > 1 for row in table.rows for cell in row)
    separator = "\n\\addlinespace\n" if several_lines else "\n"
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{columns or 'l' * len(table.head)}}}",
            "\\toprule",
            *_heads(table.head),
            "\\midrule",
            separator.join(body),
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _column(number: int, cells: Sequence[TableCell]) -> str:
    if max(len(text) for cell in cells for text in cell) > LONG:
        return "p{0.45\\linewidth}"
    return "c" if number else "l"


def _row(cells: Sequence[TableCell]) -> str:
    """Write a row of a table; further lines of its cells are below the first, and smaller."""
    lines = []
    for number in range(max(map(len, cells))):
        texts = [written(cell[number]) if number < len(cell) else "" for cell in cells]
        if number:
            texts = [f"{{\\scriptsize {text}}}" if text else "" for text in texts]
        lines.append(_line(texts))
    return "\n".join(lines)


def _line(texts: Sequence[str]) -> str:
    return f"{' & '.join(texts)} \\\\"


def _heads(head: Sequence[TableCell]) -> list[str]:
    """Write the heads of the columns by level, with a rule below neighbours that share a head.

    Texts that all columns share are at the top.
    """
    corner, *columns = head
    depth = max(map(len, columns))
    padded = [(*cell, *[""] * (depth - len(cell))) for cell in columns]
    shared = [len(set(texts)) == 1 < len(columns) for texts in zip(*padded, strict=True)]
    top = ", ".join(text for text, same in zip(padded[0], shared, strict=True) if same and text)
    levels = [[(top, len(columns))]] if top else []
    for level in (level for level in range(depth) if not shared[level]):
        groups = groupby(padded, key=lambda cell: cell[: level + 1])
        levels.append([(key[level], len(list(members))) for key, members in groups])
    lines = []
    for number, groups_of_level in enumerate(levels, 1):
        label = written(corner[0]) if number == len(levels) else ""
        lines.append(_line([label, *(_spanning(text, width) for text, width in groups_of_level)]))
        lines += _rules([width for _, width in groups_of_level])
    return lines


def _spanning(text: str, width: int) -> str:
    return f"\\multicolumn{{{width}}}{{c}}{{{written(text)}}}" if width > 1 else written(text)


def _rules(widths: Sequence[int]) -> list[str]:
    """Write a rule below each group of several columns."""
    rules, start = "", 2
    for width in widths:
        rules += f"\\cmidrule(lr){{{start}-{start + width - 1}}}" if width > 1 else ""
        start += width
    return [rules] if rules else []
