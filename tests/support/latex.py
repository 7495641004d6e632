"""Check the structure of LaTeX tables."""

import re


def cells(row: str) -> int:
    """Columns that a row fills."""
    spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", row)]
    return len(re.findall(r"(?<!\\)&", row)) + 1 + sum(spans) - len(spans)


def check_tabulars(text: str) -> int:
    """Every tabular is closed and every row of it full; returns how many there are."""
    code = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
    bare = re.sub(r"\\[{}\\]", "", code)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"(?<!\\)[%#~^|]", code)
    tabulars = re.findall(
        r"\\begin\{tabular\}\{((?:[lc]|p\{[^}]*\})+)\}(.*?)\\end\{tabular\}", code, re.S
    )
    assert code.count(r"\begin{") == code.count(r"\end{") == len(tabulars)
    for columns, body in tabulars:
        width = len(re.sub(r"\{[^}]*\}", "", columns))
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {cells(row) for row in rows} == {width}
        for start, end in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", body):
            assert 2 <= int(start) < int(end) <= width
        rules = [body.count(f"\\{rule}") for rule in ("toprule", "midrule", "bottomrule")]
        assert rules == [1, 1, 1]
    return len(tabulars)
