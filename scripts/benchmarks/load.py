"""The load generator: a process of its own, cheaper per request than any server it drives.

Everything that can be done before the window is done before: handshakes, and protecting every
request. In the window it sends and receives; afterwards every answer is opened and checked. The
load is closed (each association keeps a number of requests in flight, or all together do and take
turns) or open (so many requests a second, on schedule, whatever is answered).

Arguments: one JSON object. Standard output: ``ready``; after a line on standard input, the window,
then ``end``; then the result as one JSON object (see measure.py). A second line ends the process
and with it the associations.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import resource
import select
import sys
import time
from collections import Counter
from typing import Any

import packs
from requester import Answer, Requester

from gateway.coap.numbers import Code
from gateway.errors import DtlsError

_LOOK_S = 0.25
_DRAIN_S = 8.0
"""After the window, for what is still in flight."""
_TICK_S = 0.001
"""Of an open load: what is due is sent this often."""
_GOOD = (Code.CHANGED, Code.CREATED)


class Load:
    """All associations of one run."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._told = {key: arguments[key] for key in ("associations", "in_flight", "in_turns")}
        self._in_flight: int = arguments["in_flight"]
        self._in_turns: int | None = arguments["in_turns"]
        self._rate: float | None = arguments["rate"]
        self._to_the_end: bool = arguments["to_the_end"]
        first, count = arguments["first"], arguments["associations"]
        # An address of its own each time (all of 127.0.0.0/8 is this machine): a server that does
        # not forget associations, as aiocoap's, could not shake hands on a port used again.
        high, low = divmod(arguments["boot"] & 0xFFFF, 256)
        source = f"127.1.{high}.{low}"
        self._all = [
            Requester(number, ("127.0.0.1", arguments["port"]), source)
            for number in range(first, first + count)
        ]
        self._by_descriptor = {one.socket.fileno(): one for one in self._all}
        for one in self._all:
            if arguments["dtls"]:
                try:
                    one.connect(arguments["key"].encode())
                except DtlsError as error:
                    raise SystemExit(f"the handshake of bench-{one.number}: {error}") from None
            requests = packs.requests(
                one.number,
                method=arguments["method"],
                path=arguments["path"],
                boot=arguments["boot"],
                count=arguments["each"],
            )
            one.prepare(requests, careful=arguments["careful"])
        self._poll = select.epoll()
        for descriptor in self._by_descriptor:
            self._poll.register(descriptor, select.EPOLLIN)
        self._rotation = itertools.cycle(self._all)
        self._next_look = 0.0
        self._began = self._ended = 0.0

    def window(self, seconds: float) -> None:
        """Send and receive for so long, or until an association has no request left (with
        ``to_the_end``, until none has)."""
        self._began = time.perf_counter()
        self._next_look = self._began + _LOOK_S
        until = self._began + seconds
        if self._rate is not None:
            self._open_loop(self._rate, until)
        else:
            if self._in_turns is not None:
                self._send_in_turn(self._in_turns)
            else:
                for one in self._all:
                    one.in_flight = self._in_flight
                    one.send(self._in_flight, time.perf_counter())
            dry: list[bool] = []
            while time.perf_counter() < until and not self._over(dry):
                dry = self._turns(0.05)
        self._ended = time.perf_counter()
        for one in self._all:
            one.in_flight = 0

    def _over(self, dry: list[bool]) -> bool:
        return any(dry) and (not self._to_the_end or not any(one.left for one in self._all))

    def _open_loop(self, rate: float, until: float) -> None:
        turn, sent = 0, 0
        at_once = math.ceil(rate * 2 * _TICK_S / len(self._all))
        while (now := time.perf_counter()) < until:
            due = int((now - self._began) * rate) - sent
            while due > 0:
                one = self._all[turn % len(self._all)]
                one.send(min(at_once, due), now)
                turn, due, sent = turn + 1, due - at_once, sent + min(at_once, due)
            for _ in self._turns(_TICK_S, overdue=False):
                pass

    def _send_in_turn(self, count: int) -> list[bool]:
        """A request of each of the next associations; whether each ran dry."""
        now, dry = time.perf_counter(), []
        for one in itertools.islice(self._rotation, count):
            one.send(1, now)
            dry.append(one.dry)
        return dry

    def _turns(self, wait: float, *, overdue: bool = True) -> list[bool]:
        """Serve every association that has an answer; whether each ran dry."""
        dry = []
        for descriptor, _ in self._poll.poll(wait):
            one = self._by_descriptor[descriptor]
            came = one.turn(time.perf_counter())
            if self._in_turns is not None and not self._ended:
                dry += self._send_in_turn(came)
            dry.append(one.dry)
        now = time.perf_counter()
        if overdue and now >= self._next_look:
            self._next_look = now + _LOOK_S
            for one in self._all:
                one.look(now)
        return dry

    def drain(self) -> None:
        """Wait for what is in flight; what is overdue is sent again, unless the load is open."""
        until = time.perf_counter() + (_DRAIN_S if self._rate is None else 1.0)
        while time.perf_counter() < until and not all(one.idle() for one in self._all):
            self._turns(0.05, overdue=self._rate is None)

    def result(self, busy: float) -> dict[str, Any]:
        """Figures of the window. busy: CPU seconds that it took here."""
        answers: list[Answer] = []
        for one in self._all:
            one.settle()
            answers += one.answers
        seconds = self._ended - self._began
        good = [one for one in answers if one.code in _GOOD]
        in_window = [one for one in good if one.came <= self._ended]
        refused = Counter(
            f"{one.code >> 5}.{one.code & 31:02}" for one in answers if one.code not in _GOOD
        )
        sent = sum(one.sent for one in self._all)
        latencies = sorted((one.came - one.sent) * 1000 for one in good)
        return self._told | {
            "seconds": seconds,
            "sent": sent,
            "acknowledged": len(good),
            "done": len(in_window),
            "refused": dict(refused),
            "resent": sum(one.resent for one in self._all),
            "unanswered": sent - len(answers),
            "rate": len(in_window) / seconds,
            "generator_busy": busy / seconds,
            "latency_ms": quantiles(latencies),
            "request_bytes": self._all[0].wire_bytes,
        }

    def close(self) -> None:
        """Every node says goodbye."""
        for one in self._all:
            one.close()


def quantiles(ordered: list[float]) -> dict[str, float]:
    """Of values in order: median, 99th of a hundred, highest. Empty when there are none."""
    if not ordered:
        return {}
    return {
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
        "max": ordered[-1],
    }


def main() -> None:
    """See the module."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    arguments = json.loads(sys.argv[1])
    load = Load(arguments)
    # No collection in the window: the prepared requests would be walked through each time.
    gc.collect()
    gc.disable()
    print("ready", flush=True)
    sys.stdin.readline()
    busy = time.process_time()
    load.window(arguments["seconds"])
    busy = time.process_time() - busy
    print("end", flush=True)
    load.drain()
    print(json.dumps(load.result(busy)), flush=True)
    sys.stdin.readline()
    load.close()


if __name__ == "__main__":
    main()
