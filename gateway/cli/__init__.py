"""The command line, ``ward-gateway``: one module a group of commands, errors printed once here.

Exit codes: 0 done, 1 failed, 2 usage, 78 bad configuration (EX_CONFIG of sysexits.h).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.errors import ConfigError, GatewayError

if TYPE_CHECKING:
    from collections.abc import Sequence

EX_CONFIG: Final = 78
_MODULES: Final = {
    "init": "setup",
    "run": "service",
    "check": "service",
    "device": "devices",
    "recipient": "recipients",
    "read": "read",
    "outbox": "queue",
    "alarm": "queue",
    "send": "nodes",
    "simulate": "nodes",
    "cloud": "cloud",
    "config": "show",
    "version": "show",
    "demo": "demo",
}
"""Command -> its module here. Only that of the command typed is imported: the servers and clients
that others need take most of a second on a small machine."""

_EPILOG: Final = """\
first steps:
  ward-gateway demo                        everything on this machine, with real heartbeats
  ward-gateway init ward1                  a ward of your own, then follow what it prints
"""


def parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Of the commands that ``argv`` mentions; of all where it mentions none, for the help."""
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
    mentioned = [_MODULES[word] for word in argv if word in _MODULES]
    for name in dict.fromkeys(mentioned or _MODULES.values()):
        importlib.import_module(f"gateway.cli.{name}").add_parser(commands)
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
    argv = sys.argv[1:] if argv is None else argv
    args = parser(argv).parse_args(argv)
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
