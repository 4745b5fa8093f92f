"""The command line: one module per command, loaded when it is called.

Exit codes: 0 done and conforming, 1 not conforming, 2 wrong usage or unreadable input, 3 the
instrument is broken, 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from conformance import __version__
from conformance.cli.options import helped

_COMMANDS = {
    "run": ("run", "Measure implementations and write a record."),
    "merge": ("merge", "Put the shards of a run together."),
    "judge": ("judge", "Judge an old record again, under these or other rules."),
    "report": ("report", "Turn records into an HTML and a Markdown report."),
    "list": ("listing", "List ops, implementations, families or dtypes."),
    "exact": ("exact", "Ask the oracle: the exact answer to any number of digits."),
    "explain": ("explain", "Recreate a case: inputs, exact answer, every framework's answer."),
    "claims": ("claims", "Check the claims of the article that the suite grew out of."),
    "deviations": ("deviations", "What is documented, whether it is right, what should change."),
    "doctor": ("doctor", "Show versions, CPU, threads, switches, caches and disk."),
}


class _Commands(click.Group):
    """Commands by name; nothing of a command is imported before it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"conformance.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], _COMMANDS, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"no command {args[0]!r}{hint} (see conformance --help)")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="conformance")
@click.pass_context
def cli(ctx: click.Context) -> int:
    """Numerical conformance of logits operators, across frameworks.

    \b
    conformance run                      measure everything that is installed (about a minute)
    conformance report RUN --out DIR     the comparison as one HTML page
    conformance exact softmax "[1, 2]"   the exact answer, from the oracle
    """
    return helped(ctx)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(call(arguments))


def call(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; a user's mistake is one line on stderr and 2."""
    try:
        code: Any = cli.main(args=arguments, prog_name="conformance", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        return _mistake(error.format_message())
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does.
        sys.stderr.close()
        return 0
    except Exception as error:
        code = _known(error)
        if code is None:
            raise
        return _mistake(str(error), code)


def _known(error: Exception) -> int | None:
    """The exit code of an error that is somebody's mistake and not ours; None otherwise."""
    from conformance.cells import SelectionError
    from conformance.claims.expected import ExpectationError
    from conformance.claims.measure import ChildFailed
    from conformance.claims.trajectory import Uncertified
    from conformance.deviations import DeviationError, FolderError
    from conformance.policy import PolicyError
    from conformance.record import RecordError
    from conformance.registry import RegistryError
    from reference.cases import CaseError
    from reference.oracle import FlushToZero, Undecided

    mistakes = (SelectionError, RecordError, RegistryError, CaseError, PolicyError, FolderError)
    if isinstance(error, mistakes):
        return 2
    broken = (ChildFailed, DeviationError, ExpectationError, FlushToZero, Uncertified, Undecided)
    if isinstance(error, broken):
        return 3
    return None


def _mistake(message: str, code: int = 2) -> int:
    from conformance.text import printable

    click.echo(f"error: {printable(message, 600)}", err=True)
    return code
