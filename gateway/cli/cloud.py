"""``ward-gateway cloud``: the reference cloud store."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from cloud.app import start
from cloud.config import Config, load
from gateway.clock import SystemClock

DEFAULT = Path("cloud.toml")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``cloud run``."""
    cloud = commands.add_parser("cloud", help="the reference cloud store")
    actions = cloud.add_subparsers(metavar="ACTION", required=True)
    run = actions.add_parser("run", help="store and serve sealed records until told to stop")
    run.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="default: cloud.toml in the current folder",
    )
    run.set_defaults(run=run_store)


def run_store(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises ConfigError, or StoreError when the disk fails."""
    config = load(Path(getattr(args, "config", None) or DEFAULT))
    asyncio.run(_serve(config))
    return 0


async def _serve(config: Config) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def stop() -> None:
        if not done.done():
            done.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    service = await start(config, SystemClock(), done)
    try:
        host, port = service.address
        shown = f"[{host}]" if ":" in host else host
        print(f"cloud store listening on https://{shown}:{port}", flush=True)
        await done
    finally:
        await service.stop()
