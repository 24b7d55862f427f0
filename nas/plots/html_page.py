"""Interactive pages that need no network: plotly.js is inlined, what is shown is embedded as JSON."""

import html
import json
import re
from pathlib import Path

from search_spaces.atomic import write_bytes
from search_spaces.checksum import BLANK, with_checksum

_PAGE = Path(__file__).parent / "page"


def html_page(name: str, title: str, data: object) -> str:
    """Returns a page, about 5 MB; its main part and script are the files of that name in ``page/``.

    Args:
        name: of the page's files.
        title: in plain text.
        data: JSON values; all text in them is escaped, so that it cannot become part of the page.
    """
    from plotly.offline import get_plotlyjs

    parts = {
        "title": html.escape(title),
        "style": (_PAGE / "page.css").read_text(encoding="utf-8"),
        "main": (_PAGE / f"{name}.html").read_text(encoding="utf-8"),
        "elements": (_PAGE / "elements.js").read_text(encoding="utf-8"),
        "script": (_PAGE / f"{name}.js").read_text(encoding="utf-8"),
        "plotly": get_plotlyjs(),
        "data": _json_for_html(data),
    }
    page = (_PAGE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def write_html_page(page: str, path: Path) -> None:
    """Writes a page with its checksum in a comment."""
    write_bytes(path, with_checksum(f"{page}<!-- {BLANK} -->\n".encode()))


def _json_for_html(data: object) -> str:
    # Nothing in a JSON string can then end the script element or open a comment in it.
    text = json.dumps(data, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
