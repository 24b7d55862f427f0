"""The commands of device teams: measure, lint, import, fit, evaluate."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nas.cli.options import FormatOption
from nas.cli.output import ProgressLine, emit, say
from search_spaces.cost import Precision

app = typer.Typer(
    help="Measure networks on a device and learn to predict.", no_args_is_help=True, rich_markup_mode=None
)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="measurement set (.parquet)", show_default=False)]
Store = Annotated[Path, typer.Option("--store", help="folder of predictors")]


@app.command()
def measure(
    out: Annotated[Path, typer.Option(help="Parquet file; rows already there are kept and not measured again")],
    space: Annotated[str, typer.Option(help="shipped space or YAML file")] = "tiny",
    count: Annotated[int, typer.Option(min=1, help="networks")] = 40,
    device: Annotated[str, typer.Option(help="such as local/litert, ssh/HOST/litert")] = "local/onnxruntime",
    precision: Annotated[Precision, typer.Option(help="of the measured files")] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="of the runtime, pinned")] = 1,
    preset: Annotated[str, typer.Option(help="quick or standard")] = "quick",
    seed: Annotated[int, typer.Option(help="of the networks drawn")] = 0,
    format: FormatOption = "table",
) -> None:
    """Measures random networks of a space on a device.

    Example: nas latency measure --space tiny --count 40 --device local/onnxruntime --precision int8 --out m.parquet
    """
    from nas import api

    with ProgressLine() as progress:
        rows = api.measure_latency(
            out, space=space, count=count, device=device, precision=precision, threads=threads,
            preset=preset, seed=seed, progress=progress,
        )  # fmt: skip
    emit(rows, api.measurement_rows(rows), format)
    say(f"next: nas latency fit {out} --name {device.replace('/', '-')}-{precision}")


@app.command()
def lint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".parquet, .csv or .jsonl", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="exit code 1 if anything is found")] = False,
    format: FormatOption = "table",
) -> None:
    """Finds rows of a table of measurements that a predictor must not learn from, and says why.

    Example: nas latency lint table.parquet
    """
    from dataclasses import asdict

    from nas import api

    findings = api.lint_latency(file)
    rows = api.finding_rows(findings)
    data = [row | asdict(finding) for row, finding in zip(rows, findings, strict=True)]
    emit(data, rows, format)
    say(f"{len(findings) or 'no'} finding{'s' * (len(findings) != 1)} in {file}")
    say(f"next: nas latency import {file} --out SET.parquet")
    if findings and strict:
        raise typer.Exit(1)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".parquet, .csv or .jsonl", show_default=False)],
    out: Annotated[Path, typer.Option(help="measurement set (.parquet); rows already there are kept")],
    space: Annotated[
        str | None,
        typer.Option(help="of arch, where no column says it: ofa_mbv3, mnasnet_anb, fbnet, or a name of your own"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="the only one to import, or the name of all rows")] = None,
    precision: Annotated[Precision | None, typer.Option(help="of rows that do not state theirs")] = None,
    threads: Annotated[int, typer.Option(min=1, help="of rows that do not state theirs")] = 1,
    latency_unit: Annotated[Literal["ms", "s", "us"], typer.Option(help="of latency_ms in the file")] = "ms",
    format: FormatOption = "table",
) -> None:
    """Adds the rows of a table of others to a measurement set; rows not to learn from are kept there as refused.

    Example: nas latency import table.csv --device pixel8 --precision fp32 --space fbnet --out pixel8.parquet
    """
    from nas import api

    found = api.import_latency(
        file, out, space=space, device=device, precision=precision, threads=threads, latency_unit=latency_unit
    )
    summary, rows = api.import_summary(found), api.finding_rows(found.findings)
    emit(summary | {"findings": rows}, [summary], format)
    for finding in found.findings:
        say(f"{finding.rule}: {finding.message}")
    say(f"next: nas latency fit {out} --name NAME")


@app.command()
def fit(
    data: Data,
    name: Annotated[str, typer.Option(help="of the predictor; each fit adds a version")],
    store: Store = Path("predictors"),
    format: FormatOption = "table",
) -> None:
    """Fits a predictor to measurements; prints its cross-validated error, rank correlation and interval coverage.

    Example: nas latency fit m.parquet --name local-onnxruntime-int8
    """
    from nas import api

    summary = api.fit_latency(data, name, store)
    emit(summary, [summary], format)
    say(f"next: nas latency evaluate {name} --data OTHER.parquet --store {store}")


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="predictor, NAME or NAME/vN", show_default=False)],
    data: Annotated[Path, typer.Option(help="measurement set that the predictor has not seen")],
    store: Store = Path("predictors"),
    format: FormatOption = "table",
) -> None:
    """Compares a predictor with measurements: error, share within 10 %, rank correlation, interval coverage.

    Example: nas latency evaluate local-onnxruntime-int8 --data fresh.parquet
    """
    from nas import api

    summary = api.evaluate_latency(name, data, store)
    emit(summary, [summary], format)


@app.command("list")
def list_(store: Store = Path("predictors"), format: FormatOption = "table") -> None:
    """Lists the predictors of a folder.

    Example: nas latency list
    """
    from nas import api

    rows = api.list_predictors(store)
    emit(rows, rows, format)
