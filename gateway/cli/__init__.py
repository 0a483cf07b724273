"""The command line, ``ward-gateway``: one module a group of commands, errors printed once here.

Exit codes: 0 done, 1 failed, 2 usage, 78 bad configuration (EX_CONFIG of sysexits.h).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.cli import cloud, demo, devices, nodes, queue, read, recipients, service, setup, show
from gateway.errors import ConfigError, GatewayError

if TYPE_CHECKING:
    from collections.abc import Sequence

EX_CONFIG: Final = 78
_MODULES: Final = (setup, service, devices, recipients, read, queue, nodes, cloud, show, demo)

_EPILOG: Final = """\
first steps:
  ward-gateway demo                        everything on this machine, with real heartbeats
  ward-gateway init ward1                  a ward of your own, then follow what it prints
"""


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(
        prog="ward-gateway",
        description="Takes vital signs over CoAP/DTLS, triages, seals, stores and forwards them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--config",
        type=Path,
        default=None,
        metavar="FILE",
        help="default: ./gateway.toml, then /etc/ward-gateway/gateway.toml",
    )
    top.add_argument("--json", action="store_true", help="JSON instead of tables")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in _MODULES:
        module.add_parser(commands)
    _accept_everywhere(commands)
    return top


def _accept_everywhere(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Let ``--config`` and ``--json`` stand behind the command too, where people type them."""
    for command in commands.choices.values():
        inner = [
            action for action in command._actions if isinstance(action, argparse._SubParsersAction)
        ]
        known = command._option_string_actions
        if "--config" not in known:
            command.add_argument(
                "--config", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )
        if "--json" not in known:
            command.add_argument(
                "--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )
        for action in inner:
            _accept_everywhere(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    args = parser().parse_args(argv)
    try:
        code: int = args.run(args)
    except ConfigError as error:
        for problem in error.problems:
            print(f"ward-gateway: {problem}", file=sys.stderr)
        return EX_CONFIG
    except GatewayError as error:
        print(f"ward-gateway: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
