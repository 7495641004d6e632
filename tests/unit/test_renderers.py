"""The renderers of pages: all text and marks of a page, and nothing else, whatever its text."""

import io
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from decur.tables import html, terminal
from decur.tables.html import as_html
from decur.tables.latex import as_latex
from decur.tables.markdown import as_markdown
from decur.tables.markup import Span, spans, unmarked
from decur.tables.pages import Heading, Page, Table, grid
from decur.tables.terminal import as_text

PAGE = Page(
    "Title",
    "A caption.",
    "Scale: `small`.",
    (
        Heading("First"),
        grid([["", ("S1", "1 % labels")], ["DeCUR", ("**80.0**<sup>a</sup>", "paper 79.4")]]),
        "<sup>a</sup> A note.",
    ),
)
HOSTILE = "<script>alert(1)</script>"


def plain(page: Page, width: int = 100) -> str:
    return as_text(page, Console(file=io.StringIO(), width=width, color_system=None))


def coloured(page: Page, width: int = 100) -> str:
    return as_text(page, Console(width=width, force_terminal=True, color_system="standard"))


def with_cell(text: str) -> Page:
    return Page("T", body=(grid([["sample"], [text]]), text))


class Elements(HTMLParser):
    """The tags of a piece of HTML, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open += [tag] if tag not in ("br", "img") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("render", [as_markdown, as_latex, as_html, plain, coloured])
def test_every_renderer_renders_all_of_a_page(render: Callable[[Page], str]) -> None:
    text = render(PAGE)
    places = [
        re.search(words, text)
        for words in ("Title", "A caption", "First", "S1", "DeCUR", "80", "paper 79", "A note")
    ]
    assert all(places)
    starts = [place.start() for place in places if place]
    assert starts == sorted(starts)
    assert "Scale: " in text and "small" in text


def test_marks_are_read_from_outside_in() -> None:
    text = "a **b <sup>c</sup>** `d`"
    assert list(spans(text)) == ["a ", Span("bold", "b <sup>c</sup>"), " ", Span("code", "d")]
    assert list(spans("b <sup>c</sup>")) == ["b ", Span("superscript", "c")]
    assert list(spans("2 ** 3, <sup>, `")) == ["2 ** 3, <sup>, `"]
    assert list(spans("")) == []


@given(st.text(st.sampled_from("ab*`<>/ sup\n"), max_size=40))
def test_a_name_without_marks_is_one_span(name: str) -> None:
    assert all(isinstance(span, str) for span in spans(unmarked(name)))


def test_html_of_a_page() -> None:
    elements = Elements(as_html(PAGE))
    assert elements.open == []
    assert [tag for tag in elements.tags if tag in ("h3", "h4", "table", "th", "td", "p")] == [
        *("h3", "p", "h4", "table", "th", "th", "td", "td", "p", "p")
    ]
    assert "<td><strong>80.0</strong><sup>a</sup><br>paper 79.4</td>" in as_html(PAGE)


@given(st.text(max_size=30))
def test_html_holds_any_text_and_no_tag_of_it(text: str) -> None:
    elements = Elements(f"<p>{html.written(text)}</p>")
    assert elements.open == [] and set(elements.tags) <= {"p", "strong", "code", "sup"}
    if not any(sign in text for sign in "*`<\r"):
        assert "".join(elements.texts) == text


@pytest.mark.parametrize("field", ["title", "caption", "scale"])
def test_no_field_of_a_page_can_add_a_tag(field: str) -> None:
    page = Page(**{"title": "T", field: HOSTILE})
    assert "<script" not in as_html(page) and "&lt;script&gt;" in as_html(page)


def test_a_name_of_a_sample_is_no_tag_and_steers_no_terminal() -> None:
    page = with_cell(f"{HOSTILE} \x1b[31m\x07 [red]")
    assert "<script" not in as_html(page)
    assert "<script" not in as_markdown(page).splitlines()[4]
    for text in (plain(page), coloured(page)):
        assert "\x1b[31m" not in text and "\x07" not in text
        assert text.count("[red]") == 2 and "alert(1)" in text


def test_plain_text_keeps_signs_where_a_terminal_has_styles() -> None:
    assert "\x1b" not in plain(PAGE)
    assert "**80.0**[a]" in plain(PAGE) and "`small`" in plain(PAGE)
    assert "\x1b[1m80.0\x1b[0m" in coloured(PAGE) and "**" not in coloured(PAGE)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_page_fits_the_width_and_its_words_stay_whole(width: int) -> None:
    words = "several words of a claim that is long " * 3
    page = Page(f"T {words}", words, body=(grid([["", "Claim"], ["1", words.strip()]]),))
    text = plain(page, width)
    assert max(map(len, text.splitlines())) <= width
    assert set(text.replace("─", " ").split()) == {"T", "1", "Claim", *words.split()}


def test_a_name_that_does_not_fit_is_broken_and_not_cut() -> None:
    lines = plain(Page("T", body=(grid([["", "Sample"], ["1", "patch_" * 20]]),)), 40).splitlines()
    assert "patch_" * 20 in "".join(line.split()[-1] for line in lines if "_" in line)


def test_a_table_without_rows_is_rendered() -> None:
    page = Page("T", body=(Table((("",), ("a", "b")), ()),))
    assert "<tbody>" in as_html(page) and "a" in plain(page)
    assert terminal.written("").plain == ""
