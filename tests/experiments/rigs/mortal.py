"""A ward whose gateway dies often: born by a nursery, its cloud store a stub of this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.acceptance.ward import WITHIN_S, Ward
from tests.experiments.rigs.cloud_stub import Stub
from tests.experiments.rigs.crowd import Crowd, compare
from tests.experiments.rigs.nursery import a_nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.experiments.rigs.nursery import Born, Nursery

_PLANTED = Path(__file__).parents[1] / "planted"


class Mortal(Ward):
    """``planted`` and ``environment`` may change from one life to the next."""

    def __init__(self, folder: Path, nursery: Nursery, nodes: int) -> None:
        super().__init__(folder)
        self._nursery = nursery
        self._births: list[Born] = []
        self.make()
        self.crowd = Crowd(self, nodes)
        self.stub = Stub(self.folder)
        self.stub.port = self.port_base + 3
        self.stub.keeps = True
        self.born_at = 0.0

    def begin_gateway(self, folder: Path | None = None) -> None:
        script = "" if self.planted is None else str(_PLANTED / f"{self.planted}.py")
        self.born_at = time.monotonic()
        self.gateway = self._nursery.bear(  # type: ignore[assignment]
            [script, "run", "--config", str(self.config)],
            environment={**os.environ, **self.environment},
            log=self.logs / "gateway.log",
        )
        self._births.append(self.gateway)  # type: ignore[arg-type]

    async def live(self) -> None:
        """A gateway, and the crowd at it."""
        await asyncio.to_thread(self.start_gateway)
        self.crowd.go()

    async def ended(self, within_s: float) -> int | None:
        """The exit code once it has died; None if it still lives after some time."""
        assert self.gateway is not None
        deadline = time.monotonic() + within_s
        while (code := self.gateway.poll()) is None:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.005)
        return code

    async def kill(self) -> None:
        """If it still lives; the crowd falls silent."""
        assert self.gateway is not None
        self.gateway.send_signal(signal.SIGKILL)
        await self.ended(WITHIN_S)
        await self.bury()

    async def bury(self) -> None:
        """It has ended: what its nodes had with it is gone."""
        await self.crowd.stop()
        await self.close_links()

    async def verdict(self) -> list[str]:
        """Let a last gateway deliver everything: what is wrong then."""
        self.planted = None
        await asyncio.to_thread(self.start_gateway)
        await asyncio.to_thread(self.delivered)
        failures = compare(self.crowd, self, self.stub)
        outbox = (await asyncio.to_thread(self.status))["outbox"]
        failures += [
            f"{outbox[name]} records {name}" for name in ("dead", "damaged", "lost") if outbox[name]
        ]
        log = self.log("gateway")
        failures += ["a traceback in the log"] if "Traceback" in log else []
        await self.kill()
        return failures

    def end(self) -> None:
        for one in self._births:
            one.kill()
            one.wait(WITHIN_S)
        super().end()


@contextlib.asynccontextmanager
async def a_mortal_ward(folder: Path, nodes: int) -> AsyncIterator[Mortal]:
    """With its stub open."""
    with a_nursery() as nursery:
        made = Mortal(folder, nursery, nodes)
        try:
            async with made.stub:
                yield made
        finally:
            made.end()
