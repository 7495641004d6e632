import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decur.tables.latex import as_latex, written
from decur.tables.pages import Page, Table, grid
from tests.support.latex import check_tabulars

SIGNS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"$\pm$": "±",
    "$-$": "−",
    r"$\geq$": "≥",
    "{[}": "[",
    **{f"\\{sign}": sign for sign in "&%$#_{}"},
}
TOKENS = re.compile("|".join(map(re.escape, sorted(SIGNS, key=len, reverse=True))) + "|.", re.S)
HEADS = [
    "Method",
    ("S1", "1 % labels", "linear", "mAP"),
    ("S1", "1 % labels", "fine-tune", "mAP"),
    ("S1", "100 % labels", "linear", "mAP"),
]


def rendered(*body: Table | str) -> str:
    return as_latex(Page("Title & more", "A caption\nof two lines.", "Scale: `small`.", body))


@given(st.text(st.sampled_from("aB1 \\&%$#_{}~^<>|[]±−≥"), max_size=30))
def test_every_sign_is_escaped_and_can_be_read_back(text):
    assert "".join(SIGNS.get(t, t) for t in TOKENS.findall(written(text))) == text


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("**81.2** ± 0.4", r"\textbf{81.2} $\pm$ 0.4"),
        ("paper 79.4<sup>a</sup> (−1.8)", r"paper 79.4\textsuperscript{a} ($-$1.8)"),
        ("Scale: `my_scale`.", r"Scale: \texttt{my\_scale}."),
        ("**a <sup>b</sup> 5 %**", r"\textbf{a \textsuperscript{b} 5 \%}"),
        ("–", "--"),
        ("[0, 1]", "{[}0, 1]"),
    ],
)
def test_the_marks_of_a_page_become_commands(text, latex):
    assert written(text) == latex


def test_heads_are_grouped_and_what_all_columns_share_stands_on_top():
    text = rendered(grid([HEADS, ["DeCUR", "1", "2", "3"]]))
    head = text.partition("\\toprule\n")[2].partition("\\midrule")[0]
    assert head.splitlines() == [
        r" & \multicolumn{3}{c}{S1, mAP} \\",
        r"\cmidrule(lr){2-4}",
        r" & \multicolumn{2}{c}{1 \% labels} & 100 \% labels \\",
        r"\cmidrule(lr){2-3}",
        r"Method & linear & fine-tune & linear \\",
    ]
    assert check_tabulars(text) == 1


def test_further_lines_of_a_cell_stand_below_it_and_smaller():
    text = rendered(grid([HEADS, ["DeCUR", ("80.0", "paper 79.4"), "–", ("1", "2", "3")]]))
    rows = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0].splitlines()
    assert rows == [
        r"DeCUR & 80.0 & -- & 1 \\",
        r" & {\scriptsize paper 79.4} &  & {\scriptsize 2} \\",
        r" &  &  & {\scriptsize 3} \\",
    ]
    assert check_tabulars(text) == 1


def test_heads_of_different_depth_and_a_single_column_are_well_formed():
    mixed = grid([["", ("a", "b", "c"), "d"], ["x", "1", "2"], ["y", "3", "4"]])
    single = grid([["", ("a", "b")], ["x", "1"]])
    empty = grid([["", "a", "b"]])
    assert check_tabulars(rendered(mixed, "A note.", single, empty)) == 3


def test_a_column_of_long_text_breaks_its_lines():
    text = rendered(grid([["", "Claim"], ["1", "so long " * 10]]))
    assert r"\begin{tabular}{lp{0.45\linewidth}}" in text
    assert check_tabulars(text) == 1


def test_title_and_caption_are_comments_and_the_scale_is_the_last_note():
    text = rendered("5 % of it.")
    assert text.startswith("% Title & more\n% A caption of two lines.\n{\\footnotesize")
    notes = [line for line in text.splitlines() if line.startswith("{\\footnotesize")]
    assert [note.partition("raggedright ")[2] for note in notes] == [
        r"5 \% of it.\par}",
        r"Scale: \texttt{small}.\par}",
    ]
