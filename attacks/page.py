"""The leakage study as a part of a run's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.report import Page, environment

if TYPE_CHECKING:
    from attacks.study import Study

__all__ = ["leakage_page"]


def leakage_page(study: Study) -> Page:
    """Render a study; the template escapes everything it is given."""
    title = "What a server learns without secure aggregation, and what with it"
    return Page(title, environment("attacks").get_template("leakage.html").render(study=study))
