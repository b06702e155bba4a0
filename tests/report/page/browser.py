"""Debian's Chromium, driven by Playwright, for the tests of the page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-headless-shell")
# Its own calls home would be refused on a machine without network, and are not the page's.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Watched:
    """An open page, and what it said and asked for since it was opened."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path):
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        return self

    def draw_all(self):
        """Bring every chart into view and wait until it is drawn."""
        for plot in self.page.locator(".plot").all():
            plot.scroll_into_view_if_needed()
            self.page.wait_for_function("plot => plot.dataset.drawn === 'yes'", arg=plot.element_handle())

    def column(self, table, number):
        """Return the texts of a column of the visible rows, counted from 1."""
        rows = table.locator("tbody tr:visible")
        return [text.strip() for text in rows.locator(f"> :nth-child({number})").all_inner_texts()]


@contextmanager
def browser() -> Iterator[object]:
    """Start Chromium; needs CHROMIUM."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()
