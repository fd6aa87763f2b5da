"""A headless Chromium for the report's tests, and what they do with pages."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pathlib
import shutil
import time
from collections.abc import Callable
from collections.abc import Iterator

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_READY_MS = 180_000
# So that drawing does as it would with a graphics card, on any machine.
_ARGS = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


@contextlib.contextmanager
def launching() -> Iterator[Callable]:
    """What starts a browser, given more arguments for it.

    Skips the test where there is none.
    """
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs keras_munet[test]"
    )
    named = os.environ.get("KERAS_MUNET_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no Chromium here; KERAS_MUNET_CHROMIUM=FILE names one")
    with api.sync_playwright() as playwright:

        def launch(*args: str):
            return playwright.chromium.launch(
                executable_path=found, args=[*_ARGS, *args], timeout=_READY_MS
            )

        yield launch


class Opened:
    """A page and everything that it said or asked for.

    Attributes:
      page: the page of Playwright.
      said: console messages and errors, none on a good page.
      asked: addresses that it asked for, besides its own file.
    """

    def __init__(self, browser, file: pathlib.Path, **options):
        """Opens a report and waits until its charts can be drawn."""
        self._context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, **options}
        )
        self._context.set_default_timeout(_READY_MS)
        self.page = self._context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda m: self.said.append(m.text))
        self.page.on("pageerror", lambda e: self.said.append(str(e.stack)))
        self.page.on("request", lambda r: self._asked(r.url))
        self.file = file
        self.page.goto(file.as_uri())
        self.wait()

    def _asked(self, url: str) -> None:
        own = (self.file.as_uri(), "data:")
        if not url.startswith(own):
            self.asked.append(url)

    def wait(self) -> None:
        """Waits until the page has run."""
        self.page.wait_for_selector("html[data-ready]", timeout=_READY_MS)

    def until(self, expression: str) -> None:
        """Waits until an expression is true; the page may load meanwhile.

        What Playwright itself would wait with is an evaluation of a text,
        which the policy of the page refuses.
        """
        deadline = time.monotonic() + _READY_MS / 1000
        while time.monotonic() < deadline:
            with contextlib.suppress(_api_error()):
                if self.page.evaluate(expression):
                    return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never became true: {expression}")

    def draw(self) -> list[str]:
        """Scrolls to every chart until it is drawn; returns their ids."""
        ids = self.page.evaluate(
            "() => [...document.querySelectorAll('.chart')].map((c) => c.id)"
        )
        for name in ids:
            self.show(name)
        return ids

    def show(self, name: str) -> None:
        """Scrolls to a chart and waits until it is drawn."""
        self.page.evaluate(
            f"document.getElementById('{name}').scrollIntoView()"
        )
        self.page.wait_for_selector(
            f"#{name}[data-drawn=yes]", timeout=_READY_MS
        )

    def open_all(self) -> None:
        """Opens every part that opens."""
        self.page.evaluate(
            "() => document.querySelectorAll('details')"
            ".forEach((d) => { d.open = true; })"
        )
        self.page.wait_for_timeout(100)

    def heading(self) -> str:
        """Returns which path the details are of."""
        return self.page.text_content("#details h3")

    def violations(self) -> list[str]:
        """Returns what axe finds wrong, one line each."""
        self.page.evaluate(_axe())
        found = self.page.evaluate("async () => (await axe.run()).violations")
        return [
            f"{v['id']}: {node['html'][:200]} {node['failureSummary']}"
            for v in found
            for node in v["nodes"]
        ]

    def close(self) -> None:
        """Closes it."""
        self._context.close()


def _api_error() -> type[Exception]:
    """Returns what Playwright raises."""
    from playwright import sync_api

    return sync_api.Error


@functools.cache
def _axe() -> str:
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None:
        pytest.skip("needs axe; pip install 'keras_munet[test]'")
    (folder,) = spec.submodule_search_locations
    (file,) = pathlib.Path(folder).rglob("axe.min.js")
    return file.read_text(encoding="utf-8")
