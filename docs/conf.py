"""The documentation: `make docs`, then open docs/_build/html/index.html."""

from sphinx.application import Sphinx

import decur

project = "DeCUR"
copyright = "the DeCUR pipeline developers, Apache-2.0"
version = release = decur.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"DeCUR {release}"

myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
# The README links to files that are no pages; tests/docs checks every link.
suppress_warnings = ["myst.xref_missing", "ref.python"]

default_role = "code"
autodoc_preserve_defaults = True


def setup(app: Sphinx) -> None:
    """Leave out pydantic's parametrised classes, such as `ExplainSettings[Tsne]`."""
    app.connect("autodoc-skip-member", lambda app, kind, name, *rest: "[" in name or None)
