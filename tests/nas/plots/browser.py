"""Chromium without a window, for tests of pages."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: `apt-get install chromium`"),
]
"""Marks of every test that calls the functions of this module."""

FRONT_READY = 'byId("budget-line").style.left'

# Runs after the page: waits until the plot stands, runs the steps of a test, leaves what they return in an element.
_DRIVER = """<script>
const faults = [];
window.addEventListener("error", (event) => faults.push(event.message));
document.addEventListener("securitypolicyviolation", (event) => faults.push("refused " + event.blockedURI));
</script>%s<script>
const byId = (id) => document.getElementById(id);
const pause = () => new Promise((resolve) => setTimeout(resolve, 50));
const set = async (id, value, event) => {
  if (typeof value === "boolean") byId(id).checked = value; else byId(id).value = value;
  byId(id).dispatchEvent(new Event(event, { bubbles: true }));
  await pause();
};
(async () => {
  const result = document.createElement("pre");
  result.id = "result";
  try {
    while (!(%s)) await pause();
    result.textContent = JSON.stringify({ value: await (async () => { %s })(), faults });
  } catch (error) {
    result.textContent = JSON.stringify({ value: null, faults: [...faults, String(error)] });
  }
  document.body.append(result);
})();
</script>"""


def in_browser(page: str, steps: str, folder: Path, ready: str = FRONT_READY) -> Any:  # Any: the steps' JSON.
    """Runs JavaScript steps in a page and returns what they return; fails on any error or refused request.

    Args:
        page: its HTML.
        steps: body of an async function, run once ``ready`` (a JavaScript expression) holds.
        folder: for files of the browser.
        ready: whether the plot stands.
    """
    head, body = page.split("</head>")
    watching, driving = (_DRIVER % ("\0", ready, steps)).split("\0")
    file = folder / "driven.html"
    file.write_text(
        # The page's own policy stays in force; it allows inline scripts.
        head + watching + "</head>" + body.replace("</body>", driving + "</body>"),
        encoding="utf-8",
    )
    text = _chromium(folder, "--dump-dom", str(file))
    answer = json.loads(
        text.rpartition('<pre id="result">')[2]
        .partition("</pre>")[0]
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
    )
    assert answer["faults"] == []
    return answer["value"]


def screenshot(page: str, folder: Path) -> Path:
    """Returns a picture of the page, 1280 by 1400 pixels."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    _chromium(folder, "--window-size=1280,1400", f"--screenshot={folder / 'page.png'}", str(file))
    return folder / "page.png"


def _chromium(folder: Path, *arguments: str) -> str:
    assert CHROMIUM
    flags = [
        "--headless=new",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=10000",
        f"--user-data-dir={folder / 'profile'}",
    ]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium refuses to run as root otherwise
    done = subprocess.run([CHROMIUM, *flags, *arguments], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout
