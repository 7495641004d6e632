"""Render pages as HTML, by the templates beside this module; all text is escaped."""

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from decur.tables.markup import spans
from decur.tables.pages import Heading, Page, Table

TAGS = {"bold": "strong", "code": "code", "superscript": "sup"}


def as_html(page: Page) -> str:
    """Render one page as a piece of a document, below headings of the second level."""
    return render("page.html", page=page, image=None)


def render(template: str, **values: object) -> str:
    """Fill a template in; the filter `marked` renders marked text."""
    return _environment().get_template(template).render(**values)


def written(text: str) -> Markup:
    """Turn a page's text into HTML: its marks into tags, all else escaped."""
    return Markup("").join(
        escape(span)
        if isinstance(span, str)
        else Markup("<{0}>{1}</{0}>").format(TAGS[span.mark], written(span.text))
        for span in spans(text)
    )


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("decur.tables"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["marked"] = written
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["heading"] = lambda part: isinstance(part, Heading)
    return environment
