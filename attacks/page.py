"""The leakage study as a part of a run's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jinja2

from protocols.report import Page

if TYPE_CHECKING:
    from attacks.study import Study

__all__ = ["leakage_page"]


def leakage_page(study: Study) -> Page:
    """Render a study; the template escapes everything it is given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("attacks", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    title = "What the server would have learned without it, and what it learned with it"
    return Page(title, environment.get_template("leakage.html").render(study=study))
