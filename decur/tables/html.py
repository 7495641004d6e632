"""Render pages as HTML with the templates beside this module; all text is escaped."""

import functools
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from decur.config.strict import slug
from decur.tables.markup import spans
from decur.tables.pages import Heading, Page, Table

TAGS = {"bold": "strong", "code": "code", "superscript": "sup"}


@dataclass(frozen=True)
class Image:
    """An image of a page: description, width in pixels, and content as a `data:` address."""

    description: str
    width: int
    address: str


def as_html(page: Page, image: Image | None = None) -> Markup:
    """Render one page as a fragment of a document, for use below second-level headings."""
    return Markup(render("page.html", page=page, image=image))


def render(template: str, **values: object) -> str:
    """Fill in a template. Its filters `as_html` and `marked` render pages and texts."""
    return _environment().get_template(template).render(**values)


def written(text: str) -> Markup:
    """Convert a page's text to HTML: marks become tags, and all other text is escaped."""
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
    environment.filters |= {"as_html": as_html, "marked": written, "slug": slug}
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["heading"] = lambda part: isinstance(part, Heading)
    return environment
