"""One self-contained HTML page per run: what was learned, what it cost, who saw what."""

from protocols.report.page import Page, environment, render, write_page

__all__ = ["Page", "environment", "render", "write_page"]
