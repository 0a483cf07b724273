"""The composition root: makes every part, joins them, starts and stops them in order.

Nothing is decided here that a room could decide. Order of starting: disk first, network last, so
that nothing is received before it can be stored. Order of stopping: the reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway import figures, identity, making, reloading
from gateway.admission import Admission
from gateway.alarm_book import AlarmBook
from gateway.clock import iso
from gateway.coap.exchanges import Exchanges
from gateway.control import Control
from gateway.delivery.deliveries import Deliveries
from gateway.delivery.undelivered import Undelivered
from gateway.dtls import selftest
from gateway.errors import OutboxError
from gateway.ingress.aiocoap_lane import AiocoapLane
from gateway.ingress.driver import Driver
from gateway.ingress.guard import Config as GuardConfig
from gateway.ingress.udp import Sockets
from gateway.lane import Lane
from gateway.outbox.letters import Letters
from gateway.roster import secret
from gateway.timekeeping import Timekeeping
from gateway.uplink import cloud_sink
from gateway.vitals.silence import Silence
from gateway.vitals.technical import CLOCK
from gateway.workers.homes import Homes
from gateway.workers.leftovers import Leftovers
from gateway.workers.lifeline import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.clock import Clock
    from gateway.config.loading import Loaded
    from gateway.errors import OutboxFull
    from gateway.outbox.writer import Writer
    from gateway.sinks import Sink
    from gateway.workers.lifeline import Worker

_log = logging.getLogger("gateway")

_SWEEP_S: Final = 0.25
_ROSTER_S: Final = 1.0
"""How often the rosters are looked at: `device add` and `revoke` act within two seconds."""
_DRAIN_S: Final = 3.0
"""For what is in flight when the gateway stops: a stop as a whole is to end within five seconds."""
_CUT_OFF_S: Final = 1.0
"""For deliveries in flight when their sink is replaced."""


class Gateway:
    """One gateway. ``await start()``, then ``await ended``, then ``await stop()``."""

    def __init__(self, loaded: Loaded, clock: Clock, worker: Worker = WHOLE) -> None:
        """Reads keys and rosters; touches neither disk nor network for writing. ``worker``: which
        part of a gateway of several processes this is.

        Raises ConfigError with all that is wrong.
        """
        self.loaded = loaded
        """The configuration in force."""
        self._clock = clock
        configuration = loaded.configuration
        section = configuration.gateway
        self._state = section.state
        self._identity = identity.load(loaded)
        local = secret.load(self._state)
        self._ward = making.ward(self._state, local)
        self._alarm_key = secret.alarm_key(local)
        self._sockets = Sockets(configuration.coap.listen)
        self._worker, self._place = worker, worker.place
        self._writer = making.writer(self._state, configuration.outbox, self._place, clock)
        self._deliveries = Deliveries(
            self._writer,
            self._make_sink,
            clock=clock,
            random=os.urandom,
            ended=self._end,
        )
        self._epochs = making.epochs(configuration, self._identity)
        self._leftovers: Leftovers | None = None
        self._homes: Homes | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._rates, self._emergency_rates = making.rates(configuration.limits)
        self._exchanges = Exchanges()
        self._started = clock.monotonic()
        self._timekeeping = Timekeeping(clock)
        self._open = self._storing = False
        self.addresses: list[str] = []
        """Where it listens, once started."""

    async def start(self) -> None:
        """Open everything. Raises ConfigError or OutboxError; call :meth:`stop` all the same."""
        configuration = self.loaded.configuration
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Resolved with the reason when the gateway cannot go on."""
        selftest.all_suites(os.urandom)
        self._storing = True
        await self._writer.start(
            on_committed=self._committed, on_refused=self._refused, on_failure=self._failed
        )
        self._book = AlarmBook(
            self._alarm_key,
            os.urandom,
            self._writer.keep_alarms,
            silence=Silence(configuration.silence),
        )
        self._book.restore(await self._writer.alarms(), self._clock.monotonic())
        self._undelivered = Undelivered(
            self.loaded.configuration.gateway.name, self._book, os.urandom
        )
        self._server = making.server(
            configuration.limits, self._place, self._ward.devices, self._identity
        )
        self._admission = Admission(self._ward, self._server)
        self._intake = making.intake(
            configuration,
            self._ward,
            self._epochs,
            recent=await self._writer.recent_keys(),
            check_room=self._writer.check_room,
            book=self._book,
        )
        if self._place.count > 1:
            self._homes = Homes(
                self._place,
                intake=self._intake,
                ward=self._ward,
                writer=self._writer,
                refresh=self._refresh,
            )
        self._driver = Driver(
            server=self._server,
            exchanges=self._exchanges,
            intake=self._homes or self._intake,
            writer=self._writer,
            rates=self._rates,
            emergency_rates=self._emergency_rates,
            clock=self._clock,
            send=self._sockets.send,
            keep=self._sockets.keep,
            forget=self._sockets.forget,
            later=asyncio.get_running_loop().call_soon,
        )
        self._lane = AiocoapLane(
            self._driver.send,
            self._driver,
            self._clock,
            GuardConfig(rate_per_s=configuration.limits.device_messages_per_s),
        )
        await self._lane.start()
        self._driver.connect(self._lane)
        self._open = True
        self._deliveries.start()
        await self._join()
        self.addresses = self._sockets.open(self._worker.sockets)
        self._control = Control(
            self._state,
            {
                **Letters(self._writers).commands(),
                "status": self.status,
                "alarms": self._book.listed,
                "ping": self.ping,
            },
            self._place.control,
        )
        await self._control.start()
        self._tasks.append(asyncio.create_task(self._sweep(), name="sweep"))
        self._sockets.start(self._driver.receive, self._clock)

    async def _join(self) -> None:
        """What is shared with other workers, and what those have left that are no more."""
        if self._place.number == 0:
            self._leftovers = Leftovers(
                self._state,
                self._place.count,
                self._clock,
                make_sink=self._make_sink,
                random=os.urandom,
                ended=self._end,
            )
            await self._leftovers.start()
        if self._homes is not None:
            await self._homes.start(
                self._worker.links, told=self._driver.told, broken=self._left_alone
            )

    async def stop(self) -> None:
        """Refuse what is new, finish what is accepted, close. What waits stays in the outbox."""
        if self._open:
            driver = self._driver
            driver.refusing = "the gateway is stopping"
            if self._homes is not None:
                self._homes.refusing = driver.refusing
            if not self.ended.done():
                with contextlib.suppress(
                    OutboxError
                ):  # _failed has told; the rest ends all the same
                    await self._writer.flush()
            if self._homes is not None:
                await self._homes.drained(_DRAIN_S)
            self._server.close(None, "the gateway is stopping")
            driver.sweep(self._clock.monotonic())
            await self._lane.stop()
        self._sockets.close()
        await self._deliveries.stop(_DRAIN_S)
        if self._leftovers is not None:
            await self._leftovers.stop(_DRAIN_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "_control"):
            await self._control.stop()
        if self._homes is not None:
            self._homes.close()
        if self._storing:
            await self._writer.close()

    async def reload(self) -> str:
        """Take over what the configuration and the files that it names say now; what has changed
        and what waits for a restart, in words. Associations go on.

        Raises ConfigError, and nothing has changed then.
        """
        fresh = reloading.read(self.loaded, self._identity)
        self.loaded, self._identity = fresh.loaded, fresh.identity
        configuration = self.loaded.configuration
        per_s = configuration.limits.device_messages_per_s
        self._rates.per_s, self._emergency_rates.per_s = per_s, making.emergencies_per_s(per_s)
        self._lane.limit(per_s)
        self._server.renew(
            making.dtls_config(configuration.limits, self._place),
            making.engines(self._ward.devices, self._identity),
        )
        self._epochs.renew(configuration.epochs, self._identity.key, self._identity.certificate)
        self._writer.resize(self._place.outbox(configuration.outbox))
        await self._deliveries.renew(_CUT_OFF_S)
        if self._leftovers is not None:
            await self._leftovers.renew(_CUT_OFF_S)
        return fresh.words

    async def ping(self) -> str:
        """Returns after a round trip through the event loop and the writer's thread: why no record
        is stored all the same, empty if they are."""
        await self._writer.flush([Lane.EMERGENCY])
        return "there is no room for any record: see `outbox status`" if self._writer.full() else ""

    # -- what the parts call

    def _writers(self) -> dict[int, Writer]:
        left = {} if self._leftovers is None else self._leftovers.writers()
        return {self._place.number: self._writer, **left}

    def _make_sink(self, lane: Lane) -> Sink:
        return cloud_sink(self.loaded, lane)

    def _committed(self, batches: list[object]) -> None:
        if self._homes is not None:
            batches = self._homes.committed(batches)
        self._driver.committed(batches)

    def _refused(self, batches: list[object], error: OutboxFull) -> None:
        if self._homes is not None:
            batches = self._homes.turned_away(batches, error)
        self._driver.refused(batches, error)

    def _failed(self, error: BaseException) -> None:
        _log.critical("the outbox has failed, nothing is acknowledged any more: %s", error)
        self._end(f"outbox: {error}")

    def _left_alone(self, other: int) -> None:
        if self._driver.refusing is None and not self.ended.done():
            _log.critical("worker %d has gone: its patients' records cannot be stored", other)
            self._end(f"worker {other} has gone")

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    async def _sweep(self) -> None:
        next_roster = 0.0
        while True:
            now = self._clock.monotonic()
            due: list[Callable[[], None]] = [partial(self._driver.sweep, now)]
            due.append(partial(self._watch, now))
            if now >= next_roster:
                next_roster = now + _ROSTER_S
                due.append(self._refresh)
            for work in due:
                try:
                    work()
                except Exception:
                    # Without this task nothing would expire and nobody be revoked any more. And
                    # what one peer may break must not keep the silence of others from being told.
                    _log.exception("a sweep was cut short because of a bug")
            await asyncio.sleep(_SWEEP_S)

    def _watch(self, now: float) -> None:
        wall = self._clock.wall()
        self._book.sweep(now, wall)
        pump = self._deliveries.status()[Lane.EMERGENCY]
        self._undelivered.sweep(self._writer.status(), pump, now, wall)

    def _refresh(self) -> None:
        self._intake.clock_quality = self._timekeeping.look()
        wall = self._clock.wall()
        if self._place.number == 0:
            self._doubt_clock(wall)
        self._admission.refresh(iso(wall))
        self._book.keep_only(self._ward.is_current, wall)

    def _doubt_clock(self, wall: float) -> None:
        name, doubt = self.loaded.configuration.gateway.name, self._timekeeping.doubt()
        if doubt is None:
            self._book.end_technical(name, CLOCK, wall)
        else:
            self._book.raise_technical(os.urandom(16), name, "", CLOCK, doubt, wall)

    # -- for people

    def status(self) -> dict[str, Any]:
        """Figures of everything, as the control socket and ``outbox status`` show them."""
        return figures.status(
            ward=self.loaded.configuration.gateway.ward,
            listen=self.addresses,
            uptime_s=self._clock.monotonic() - self._started,
            timekeeping=self._timekeeping,
            server=self._server,
            driver=self._driver,
            homes=self._homes,
            exchanges=self._exchanges,
            lane=self._lane,
            sockets=self._sockets,
            writer=self._writer,
            deliveries=self._deliveries,
            leftovers=self._leftovers,
            book=self._book,
        )
