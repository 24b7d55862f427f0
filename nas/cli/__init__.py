"""The command line: `nas`. One file per group of commands; each command is a few lines that call `nas.api`."""

import sys


def main() -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 wrong use."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Returns the exit status of a command line; the one place that turns errors into sentences."""
    import click

    from nas.cli.app import app
    from nas.cli.output import say
    from nas.errors import HwnasError, InputError

    try:
        return int(app(arguments, prog_name="nas", standalone_mode=False) or 0)
    except InputError as error:
        say(f"nas: {error}")
        return 2
    except HwnasError as error:
        say(f"nas: {error}")
        return 1
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("nas: interrupted; finished work is saved, and the same command goes on from there")
        return 1
    except BrokenPipeError:
        return 1
