"""The command line: click only, one file per command, no logic."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any, NoReturn

import click

from afbench.allocator import keep_freed_memory
from afbench.core import AfbenchError
from afbench.cores import share_cores
from afbench.crash import crash_line, user_location
from afbench.interrupts import STOPPED, catch_signals, end_at_once, raise_if_stopped, was_stopped
from afbench.version import __version__

from .echo import echo
from .hints import NamingGroup, with_hint
from .notices import echo_notices
from .progress import quiet_option
from .stopping import after_stop

_COMMANDS = {
    "generate": "attack a source and store the benchmark",
    "plan": "what a run would make, cost and store; touches nothing",
    "list": "attacks, localizers, sources, defences, steps of posting and plans",
    "index": "check your copy of a source, file by file",
    "verify": "check every file, row and bound of a benchmark",
    "inspect": "what a benchmark holds, how a config was made, where a row comes from",
    "reproduce": "make one row again and compare its pixels",
    "stats": "F1, RP, PSNR and SSIM per config",
    "preview": "a PNG contact sheet of a benchmark",
    "export": "write a benchmark as HDF5 archive, Parquet, PNG files or WebDataset",
    "restore": "make a benchmark of an HDF5 archive and your own originals",
    "push": "publish a benchmark or archive on the Hugging Face Hub; a dry run unless --yes",
    "evaluate": "F1 and RP with and without defences, per source and attack; gates",
    "train": "train a defence on a benchmark",
    "predict": "run a localizer behind a defence over a benchmark, into a submission",
    "score": "check a submission, count its masks against the truth, say what it is worth",
    "compare": "whether two scores differ, image by image",
    "leaderboard": "a static site that ranks scores",
    "report": "figures and tables for a paper; measured values beside the ANSM paper's",
    "check-attack": "try an attack of your own under the properties of those that ship",
    "weights": "register, list and check the weights of published localizers",
}


class _LazyGroup(NamingGroup):
    """Import a command only when it is called, so that help and completion answer at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(
            f"afbench.cli.{cmd_name.replace('-', '_')}_command"
        ).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with echo_notices():
                return super().invoke(ctx)
        except click.ClickException:
            raise
        except Exception:
            if ctx.params["debug"]:
                echo(traceback.format_exc(), err=True)
            raise


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: afbench generate --localizer reference --attack pgd --limit 8",
)
@click.version_option(__version__, prog_name="afbench")
@quiet_option
@click.option(
    "--debug", is_flag=True, help="Show the traceback of an error; give it before the command's name."
)
def cli(debug: bool) -> None:
    """Anti-forensics benchmarks: attack forgery localizers, store what a forger would publish, check it."""


def main() -> None:
    """Run the command line; report what a user can mend as one line on stderr and an exit code."""
    catch_signals()
    try:
        keep_freed_memory()
        # before NumPy and torch are loaded, which read the environment once
        share_cores()
        result: Any = cli(prog_name="afbench", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        if code == 1:  # the signal may have broken what was checked
            raise_if_stopped()
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        end_at_once()
        # click turns an interrupt into Abort and keeps the interrupt as its cause
        _say_stopped(error.__cause__ if isinstance(error, click.exceptions.Abort) else error)
    except Exception as error:
        end_at_once()
        if was_stopped():  # a library, or a child process that got the signal, may turn it into another error
            _say_stopped(None)
        _explain(error)
    end_at_once()
    sys.exit(code)


def _say_stopped(cause: BaseException | None) -> NoReturn:
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    _fail(after_stop(cause, command), STOPPED)


def _explain(problem: Exception) -> NoReturn:
    """Print the error as one line and exit with its code."""
    try:
        raise problem
    except AfbenchError as error:
        _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _fail(with_hint(error), 2)
    except BrokenPipeError:
        # the reader of a pipe has seen enough, as `head` does; a closed stream prints no second error at exit
        sys.stderr.close()
        sys.exit(0)
    except MemoryError:
        _fail("out of memory; lower --batch-size or --shard-size", 1)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or ''}{user_location(error)}", 1)
    except Exception as error:  # from a user's own code, from a library, or a bug of afbench
        _fail(f"{crash_line(error)}; `afbench --debug COMMAND ...` shows the traceback", 1)


def _fail(message: str, code: int) -> NoReturn:
    echo(f"afbench: error: {' '.join(message.split())}", err=True)
    sys.exit(code)
