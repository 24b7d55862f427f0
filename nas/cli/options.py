"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.output import Format

FormatOption = Annotated[Format, typer.Option("--format", help="table for people, json for scripts")]
ConfigArgument = Annotated[
    Path,
    typer.Argument(metavar="CONFIG", help="experiment YAML, or the directory of a run to resume", show_default=False),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="run directory", show_default=False)]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[key=value]...", help="replaces single fields", show_default=False)
]
