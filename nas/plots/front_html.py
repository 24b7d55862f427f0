"""front.html: the front as one interactive page that needs no network.

Page, style and script are in ``page/``; the front is embedded as JSON and plotly.js is inlined.
"""

import html
import json
import re
import shlex
from pathlib import Path

from nas.front import Front
from nas.objectives import Objective
from nas.plots.labels import axis_label, quantity
from search_spaces.atomic import write_text

_PAGE = Path(__file__).parent / "page"


def write_front_html(front: Front, path: Path, run_dir: Path | None = None) -> None:
    """Writes the page of a front.

    Args:
        front: what is shown.
        path: of the page, about 5 MB.
        run_dir: as it stands in the ``nas finish`` command that the page offers; by default the folder of the page.
    """
    write_text(path, front_html(front, str(run_dir or path.parent)))


def front_html(front: Front, run_dir: str) -> str:
    """Returns the page of a front; all text of the run is escaped.

    Args:
        front: what is shown.
        run_dir: as it stands in the ``nas finish`` command that the page offers.
    """
    from plotly.offline import get_plotlyjs

    names = list(dict.fromkeys([*(o.name for o in front.objectives), *(n for p in front.points for n in p.values)]))
    data = {
        "front": front.to_dict(),
        "names": names,
        "labels": {name: axis_label(front, name) for name in names},
        "quantities": {name: quantity(Objective.parse(name)) for name in names},
        "costs": [objective.name for objective in front.costs],
        "bounds": {
            constraint.objective.name: constraint.bound for constraint in front.constraints if constraint.at_most
        },
        "finish": f"nas finish {shlex.quote(run_dir)}",
    }
    parts = {
        "title": html.escape(f"Pareto front of {front.run}"),
        "style": (_PAGE / "front.css").read_text(encoding="utf-8"),
        "script": (_PAGE / "front.js").read_text(encoding="utf-8"),
        "plotly": get_plotlyjs(),
        "data": _json_for_html(data),
    }
    page = (_PAGE / "front.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def _json_for_html(data: object) -> str:
    # Nothing in a JSON string can then end the script element or open a comment in it.
    text = json.dumps(data, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
