"""The commands of a run: the whole way, its stages, and reading its results."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli import latency
from nas.cli.options import ConfigArgument, FormatOption, OverridesArgument, RunArgument
from nas.cli.output import ProgressLine, emit, say

if TYPE_CHECKING:
    from nas.api import RunResult

app = typer.Typer(
    name="nas",
    help="Hardware-aware neural architecture search: from a search to checked, re-measured models on the device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(latency.app, name="latency")

Name = Annotated[str, typer.Option(help="name of the run; its directory is RUNS_DIR/NAME")]
RunsDir = Annotated[Path, typer.Option(help="folder of run directories")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hwnas {version('hwnas')}")
        raise typer.Exit()


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")] = (
        False
    ),
) -> None:
    pass


@app.command()
def quickstart(name: Name = "quickstart", runs_dir: RunsDir = Path("runs"), format: FormatOption = "table") -> None:
    """The whole way on embedded data, on this machine, in minutes; no download.

    Example: nas quickstart
    """
    from nas import api

    with ProgressLine() as progress:
        result = api.quickstart(name, runs_dir, progress)
    _show_result(result, format)


@app.command()
def run(config: ConfigArgument, overrides: OverridesArgument = None, format: FormatOption = "table") -> None:
    """The whole way for an experiment; started again, it resumes where it was stopped.

    Example: nas run experiments/configs/digits.yaml search.budget=200 name=more, or nas run runs/more to resume
    """
    from nas import api

    with ProgressLine() as progress:
        result = api.run(api.start(config, tuple(overrides or ())), progress)
    _show_result(result, format)


def _show_result(result: "RunResult", format: FormatOption) -> None:
    emit(result.to_dict(), result.rows(), format)
    say(f"Pareto front: {result.front_html}")
    say(f"next: open {result.front_html}, or nas pick {result.run_dir} --within 'latency_ms@NAME <= 1'")


@app.command()
def submit(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    address: Annotated[str, typer.Option(help="of the cluster's job server")] = "http://127.0.0.1:8265",
    follow: Annotated[bool, typer.Option("--follow", help="print what the job prints until it ends")] = False,
    format: FormatOption = "table",
) -> None:
    """Runs an experiment as a job on a Ray cluster; submitted again, it resumes.

    Example: nas submit experiments/configs/digits.yaml runs_dir=/home/ubuntu/runs --follow
    """
    from nas import api

    job = api.submit(config, address, tuple(overrides or ()), follow=follow, log=say)
    emit(job.to_dict(), [job.to_dict()], format)
    if job.running:
        say(f"next: nas submit {config} --follow, with the same options, or ray job stop {job.id}")
    elif job.status == "SUCCEEDED":
        say(f"next: copy {job.run_dir} from the cluster, then nas front {job.run_dir.name}")
    else:
        say(f"job {job.id} has ended: {job.message or job.status}\nnext: the same command resumes the run")
        raise typer.Exit(1)


@app.command()
def plan(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    trial: Annotated[bool, typer.Option(help="train and evaluate for some seconds, to tell the search's time")] = True,
    format: FormatOption = "table",
) -> None:
    """Tells what an experiment would search and cost before it is run; exit status 1 where a constraint cannot be kept.

    Example: nas plan experiments/configs/digits.yaml "constraints=[parameters <= 20000]"
    """
    from nas import api

    with ProgressLine() as progress:
        found = api.plan(config, tuple(overrides or ()), trial=trial, progress=progress)
    emit(found.to_dict(), [term.row() for term in found.terms], format)
    if format == "table":
        emit((), [stage.row() for stage in found.stages], format)
    say(f"{found.space}: {found.size:,} networks; {found.feasible:.1%} of {found.drawn} keep what can be told now")
    for note in found.notes:
        say(f"note: {note}")
    for sentence in found.infeasible:
        say(f"infeasible: {sentence}")
    if found.infeasible:
        raise typer.Exit(1)
    named = [] if found.new_name is None else [f"name={found.new_name}"]
    file = config / "config.yaml" if named and config.is_dir() else config  # a directory keeps its name
    say(f"next: nas run {shlex.join([str(file), *(overrides or ()), *named])}")


@app.command()
def train(config: ConfigArgument, overrides: OverridesArgument = None, format: FormatOption = "table") -> None:
    """Trains the supernet of an experiment.

    Example: nas train experiments/configs/digits.yaml
    """
    from nas import api

    with ProgressLine() as progress:
        summary = api.train(api.start(config, tuple(overrides or ())), progress).to_dict()
    emit(summary, [summary], format)
    say(f"next: nas search {config}")


@app.command()
def search(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    more: Annotated[
        int | None, typer.Option(min=1, help="extend a run by this many evaluations; killed, simply repeat it")
    ] = None,
    format: FormatOption = "table",
) -> None:
    """Searches: trains and measures what is missing, then evaluates up to the budget.

    Example: nas search experiments/configs/digits.yaml search.budget=300, then nas search runs/digits --more 50
    """
    from nas import api

    started = api.start(config, tuple(overrides or ()), more)
    with ProgressLine() as progress:
        summary = api.search(started, progress)
    emit(summary, [summary], format)
    say(f"next: nas front {started.path}, or nas search {started.path} --more 50")


@app.command()
def front(run: RunArgument, format: FormatOption = "table") -> None:
    """Shows the Pareto front of a run: values with unit, source and interval.

    Example: nas front runs/digits --format json
    """
    from nas import api

    found = api.front(run)
    emit(found.to_dict(), api.front_rows(found), format)
    say(f"next: nas pick {run} --rule knee, or open {run / 'front.html'}")


@app.command()
def pick(
    run: RunArgument,
    within: Annotated[
        list[str] | None, typer.Option(help="a budget, such as 'latency_ms@cpu <= 2'; may be repeated")
    ] = None,
    rule: Annotated[str, typer.Option(help="knee, accuracy (best within the budgets), or spread")] = "",
    count: Annotated[int, typer.Option(min=1, help="how many; more than one spreads along the front")] = 1,
    format: FormatOption = "table",
) -> None:
    """Picks networks from the front: the knee, or the best within budgets; writes picks.json.

    Example: nas pick runs/digits --within 'latency_ms@cpu <= 0.1'
    """
    from nas import api

    picked = api.pick(run, tuple(within or ()), rule or None, count)
    emit([point.to_dict() for point in picked], api.point_rows(picked), format)
    say(f"next: nas finish {run} {' '.join(point.key for point in picked)}")


@app.command()
def fleet(
    run: RunArgument,
    devices: Annotated[
        list[str],
        typer.Option(
            "--devices",
            help="'NAME: budget, budget, share NUMBER', such as 'phone: latency_ms <= 2, share 0.7'; several are "
            "separated by semicolons, or the option is repeated",
        ),
    ],
    format: FormatOption = "table",
) -> None:
    """Finds the best 1, 2, ... networks for several devices, and what so few lose; writes fleet.json, .html and .png.

    Example: nas fleet runs/digits --devices 'cam: latency_ms@cpu <= 0.03, share 3; hub: latency_ms@cpu <= 0.1, share 1'
    """
    from nas import api

    plan = api.fleet(run, devices)
    emit(plan.to_dict(), api.fleet_rows(plan), format)
    enough = plan.fleets[plan.enough]
    say(f"regret against the number of networks: {run / 'fleet.html'}")
    say(f"next: nas finish {run} {' '.join(point.key for point in enough.models)}")


@app.command()
def trust(
    run: RunArgument,
    count: Annotated[int, typer.Option(help="networks that are trained by themselves, at least 12")] = 12,
    seeds: Annotated[int, typer.Option(help="trainings of each")] = 2,
    epochs: Annotated[int | None, typer.Option(help="of each training; by default the supernet's")] = None,
    format: FormatOption = "table",
) -> None:
    """Trains some networks by themselves, to tell how far the supernet's ranking can be trusted; killed, repeat it.

    Example: nas trust runs/digits --count 24
    """
    from nas import api

    with ProgressLine() as progress:
        found = api.trust(run, count, seeds, progress, epochs=epochs)
    emit(found.to_dict(), api.trust_rows(found), format)
    if format == "table":
        emit((), api.trained_rows(found), format)
    apart = "however far apart they are" if found.tied_within is None else f"within {found.tied_within:.3g}"
    say(f"supernet accuracies are statistically tied {apart}: {run / 'front.html'} groups them; {run / 'trust.png'}")
    say(f"next: nas pick {run} --rule knee; of networks that are tied the cheapest will do")


@app.command()
def finish(
    run: RunArgument,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="architecture keys; default: the run's picks")
    ] = None,
    format: FormatOption = "table",
) -> None:
    """Finishes networks: distil, quantize, export, check on the test split, measure again, document.

    Example: nas finish runs/digits tiny-4f2c4b19b575
    """
    from nas import api

    with ProgressLine() as progress:
        result = api.finish(run, tuple(keys or ()), progress)
    _show_result(result, format)


@app.command()
def doctor(
    run: RunArgument,
    repair: Annotated[bool, typer.Option("--repair", help="mend what can be mended; damaged files are kept")] = False,
    format: FormatOption = "table",
) -> None:
    """Looks every file of a run over: what is damaged, what that means, how it is mended; exit status 1 where it is.

    Example: nas doctor runs/digits --repair
    """
    from nas import api

    diagnosis = api.doctor(run, repair=repair)
    emit(diagnosis.to_dict(), diagnosis.rows(), format)
    for sentence in diagnosis.repaired:
        say(f"repaired: {sentence}")
    if not diagnosis.healthy:
        say(f"next: {f'nas run {run} makes again what was set aside' if repair else f'nas doctor {run} --repair'}")
        raise typer.Exit(1)
    say(f"next: nas run {run}" if repair else f"next: nas front {run}")
