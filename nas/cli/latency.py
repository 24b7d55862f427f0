"""The commands of device teams: devices, measure, lint, import, fit, transfer, evaluate, promote."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from nas.cli.options import FormatOption
from nas.cli.output import ProgressLine, emit, say
from search_spaces.cost import Precision

app = typer.Typer(
    help="Measure networks on a device and learn to predict.", no_args_is_help=True, rich_markup_mode=None
)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="measurement set (.parquet)", show_default=False)]
MetricOption = Annotated[
    Literal["latency_ms", "energy_mj", "peak_memory_mb"], typer.Option("--metric", help="what to predict")
]
Report = Annotated[Path | None, typer.Option(help="page to write (.html), with a picture beside it (.png)")]
SpaceFile = Annotated[
    str | None, typer.Option("--space", help="YAML file of the networks' space where it is none that ships")
]
Store = Annotated[Path, typer.Option("--store", help="folder of predictors")]


@app.command()
def measure(
    out: Annotated[Path, typer.Option(help="Parquet file; rows already there are kept and not measured again")],
    space: Annotated[str, typer.Option(help="shipped space or YAML file")] = "tiny",
    count: Annotated[int, typer.Option(min=1, help="networks")] = 40,
    device: Annotated[str, typer.Option(help="such as local/litert, ssh/HOST/litert")] = "local/onnxruntime",
    precision: Annotated[Precision, typer.Option(help="of the measured files")] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="of the runtime, pinned")] = 1,
    preset: Annotated[str, typer.Option(help="quick, standard, or energy: quick and energy_mj")] = "quick",
    seed: Annotated[int, typer.Option(min=0, help="of the networks drawn")] = 0,
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
def devices(
    release: Annotated[str | None, typer.Option(help="device whose quarantine to end")] = None,
    format: FormatOption = "table",
) -> None:
    """Lists the kinds of devices, those that are being measured on, and those that hung and are left alone.

    Example: nas latency devices --release ssh/raspberrypi/litert
    """
    from nas import api

    if release:
        api.release_device(release)
    rows = api.measuring_devices()
    emit(rows, rows, format)
    say("next: nas latency measure --device DEVICE --out SET.parquet")


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
    metric: MetricOption = "latency_ms",
    space: SpaceFile = None,
    store: Store = Path("predictors"),
    format: FormatOption = "table",
) -> None:
    """Fits predictors of every kind to measurements, prints their cross-validated scores, and keeps the best.

    Example: nas latency fit m.parquet --name local-onnxruntime-int8
    """
    from nas import api

    summary, tried = api.fit_latency(data, name, store, space, metric)
    emit(summary | {"tried": tried}, tried, format)
    say(f"saved: {summary['predictor']}, {summary['kind']}, for {summary['device']} in {store}")
    say(f"next: nas latency evaluate {name} --data OTHER.parquet --store {store}")


@app.command()
def transfer(
    sources: Annotated[list[Path], typer.Option(help="table or measurement set of other devices; repeat for more")],
    target: Annotated[str, typer.Option(help="the new device")],
    data: Annotated[Path | None, typer.Option(help="table with its rows; by default they are in the sources")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="measure what DATA lacks now, and add it there")] = False,
    precision: Annotated[
        Precision | None,
        typer.Option(help="of the target's rows; fp32 where they are measured now and it is not given"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="of the runtime, with --precision or --measure")] = 1,
    preset: Annotated[str, typer.Option(help="how carefully to measure: quick, standard or energy")] = "quick",
    metric: MetricOption = "latency_ms",
    samples: Annotated[int, typer.Option(help="most rows of the target to use, at least 10")] = 20,
    choose: Annotated[bool, typer.Option("--choose/--random", help="the most telling networks, or any")] = True,
    until_mape: Annotated[
        float | None, typer.Option(help="stop when the expected error, upper end, is at most this: 0.05 for 5 %")
    ] = None,
    name: Annotated[str | None, typer.Option(help="of the predictor; by default the target's")] = None,
    store: Store = Path("predictors"),
    space: Annotated[
        str | None, typer.Option(help="of arch, where no column says it; or YAML file of a space that does not ship")
    ] = None,
    seed: Annotated[int, typer.Option(help="of choice and folds")] = 0,
    report: Report = None,
    format: FormatOption = "table",
) -> None:
    """Learns a new device from 10 to 20 of its measurements and tables of other devices.

    Where DATA lacks rows, the tool chooses networks of the sources to be measured: --measure does so now; else they
    are listed, with exit code 1, and the same command goes on once their rows are in DATA.

    Example: nas latency transfer --sources bank.parquet --target ssh/pi5/litert --precision int8 --measure --data
    fresh.parquet, or nas latency transfer --sources table.parquet --target samsung_a50
    """
    from nas import api

    with ProgressLine() as progress:
        found = api.transfer_latency(
            sources, target, data=data, measure=measure, precision=precision, threads=threads, preset=preset,
            metric=metric, samples=samples, choose=choose, until_mape=until_mape, name=name, store=store, space=space,
            seed=seed, report=report, progress=progress,
        )  # fmt: skip
    if isinstance(found, api.ToMeasure):
        emit(found.to_dict(), found.rows(), format)
        say(
            f"{len(found.architectures)} networks are not in {data}: measure them on {target}, add their rows and give "
            "the same command again; --measure does it where the device can be reached from here"
        )
        raise typer.Exit(1)
    for finding in found.findings:
        say(f"{finding.rule}: {finding.message}")
    say(f"bank: {len(found.sources)} devices, {found.bank_rows} networks; of the target's family: "
        f"{', '.join(found.left_out) or 'none'}, not used")  # fmt: skip
    emit(found.to_dict(), api.learning_rows(found), format)
    if not found.learned.resembles_bank:
        say(
            f"{found.target} resembles none of the bank's devices: trust the predictor less, or fit one to its own "
            f"rows; what those cost makes {found.learned.own_share:.0%} of this one"
        )
    if report and not found.scores:
        say(f"no report: fewer than 2 networks of {found.target} are left to score it on; give more of its rows")
    if found.learned.reached is False:
        say(f"the wanted error was not reached with {samples} rows: give more --samples")
    if found.scores:
        s = found.scores
        say(f"on {s.rows} other networks: Spearman {s.spearman:.3f}, within 10 % {s.within_10:.1%}, MAPE {s.mape:.1%}, "
            f"coverage of the 90 % interval {s.coverage:.1%}")  # fmt: skip
    say(f"saved: {found.entry.id} for {found.entry.device} in {store}; learning curve: {found.picture}")
    say(f"next: nas latency evaluate {found.entry.id} --data OTHER.parquet --store {store}")


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="predictor, NAME or NAME/vN", show_default=False)],
    data: Annotated[Path, typer.Option(help="measurement set that the predictor has not seen")],
    space: SpaceFile = None,
    store: Store = Path("predictors"),
    report: Report = None,
    format: FormatOption = "table",
) -> None:
    """Compares a predictor with measurements: error, share within 10 %, rank correlation, interval coverage.

    Example: nas latency evaluate local-onnxruntime-int8 --data fresh.parquet
    """
    from nas import api

    summary = api.evaluate_latency(name, data, store, space, report)
    steps = cast("list[dict[str, float]]", summary["learning_curve"])
    emit(summary, [{name: value for name, value in summary.items() if name != "learning_curve"}], format)
    if steps:
        curve = ", ".join(f"{step['error']:.1%} from {step['rows']}" for step in steps)
        say(f"expected error, by networks learned from: {curve}")
    if summary["drift"] == "none":
        say(f"next: nas latency promote {summary['predictor']} --store {store}")
    else:
        say(f"{summary['predictor']} no longer matches {summary['device']}: {summary['drift']}")
        say(f"next: nas latency fit {data} --name {str(summary['predictor']).split('/')[0]} --store {store}")


@app.command("list")
def list_(store: Store = Path("predictors"), format: FormatOption = "table") -> None:
    """Lists the predictors of a folder.

    Example: nas latency list
    """
    from nas import api

    rows = api.list_predictors(store)
    emit(rows, rows, format)


@app.command()
def promote(
    name: Annotated[str, typer.Argument(metavar="NAME/vN", help="version of a predictor", show_default=False)],
    store: Store = Path("predictors"),
    format: FormatOption = "table",
) -> None:
    """Makes a version the one that NAME alone means, whatever is fitted later.

    Example: nas latency promote local-onnxruntime-int8/v1
    """
    from nas import api

    summary = api.promote_predictor(name, store)
    emit(summary, [summary], format)
    say(f"next: nas latency list --store {store}")


@app.command()
def audit(
    data: Data,
    fresh: Annotated[Path, typer.Option(help="measurement set (.parquet) with the rows measured again")],
    measure: Annotated[bool, typer.Option("--measure", help="measure what it lacks now, on this device")] = False,
    share: Annotated[float, typer.Option(help="of the rows to compare; at least 20 rows")] = 0.03,
    space: SpaceFile = None,
    preset: Annotated[str, typer.Option(help="quick or standard")] = "quick",
    seed: Annotated[int, typer.Option(min=0, help="of the choice of rows")] = 0,
    format: FormatOption = "table",
) -> None:
    """Measures some rows of a set again; quarantines the set where too many were wrong.

    Example: nas latency audit m.parquet --fresh again.parquet --measure
    """
    from nas import api

    with ProgressLine() as progress:
        found = api.audit_latency(
            data, fresh, measure=measure, share=share, space=space, preset=preset, seed=seed, progress=progress
        )
    emit(found.to_dict(), api.audit_rows(found), format)
    if not found.machine_stated:
        say("the rows do not state their machine: see that it is the one that measures them again")
    if found.verdict is None:
        say(f"{len(found.rows) - len(found.fresh_ms)} rows are not in {fresh}: measure them, or let --measure do it")
        raise typer.Exit(1)
    verdict = found.verdict
    judged = "no more than an honest set may have" if verdict.passed else "too many"
    say(f"{verdict.contradicted} of {verdict.audited} rows were wrong, {judged} (p = {verdict.p_value:.2g})")
    if not verdict.passed:
        say(f"{data} is in quarantine: fit, evaluate and transfer refuse it")
        say(f"next: nas latency quarantine {data} --lift, once it is mended")
        raise typer.Exit(1)
    say(f"next: nas latency fit {data} --name NAME")


@app.command()
def quarantine(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="sets or folders", show_default=False)],
    lift: Annotated[bool, typer.Option("--lift", help="let these sets be learned from again")] = False,
    format: FormatOption = "table",
) -> None:
    """Lists measurement sets in quarantine, or lifts it.

    Example: nas latency quarantine .
    """
    from nas import api

    for path in paths if lift else ():
        api.lift_quarantine(path)
    rows = api.list_quarantined(paths)
    emit(rows, rows, format)
