"""The command line: `nas`. One file per group of commands; each command is a few lines that call `nas.api`."""

import sys

INTERRUPTED = 130  # what Typer makes of Ctrl-C


def main() -> None:
    """Runs the command line and exits: 0 done, 1 failed or interrupted, 2 wrong use."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Returns the exit status of a command line; the one place that turns errors into sentences."""
    import typer

    from nas.cli.app import app
    from nas.cli.output import say
    from nas.errors import HwnasError, InputError

    try:
        status = int(app(arguments, prog_name="nas", standalone_mode=False) or 0)
    except InputError as error:
        say(f"nas: {error}")
        return 2
    except (HwnasError, OSError) as error:
        say(f"nas: {error}")
        return 1
    except typer.TyperException as error:
        text = error.format_message()
        say(text if text.startswith("Usage") else f"nas: {text}")
        return error.exit_code
    if status == INTERRUPTED:
        say("nas: interrupted; what was finished is saved, and the same command goes on from there")
        return 1
    return status
