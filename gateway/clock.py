"""The only place that asks the system what time it is, and whether it knows.

*Synchronised* means two things: the date is one at which this program existed, and the kernel says
that somebody keeps its clock right (chrony, ntpd and systemd-timesyncd tell it so). A container
sees the kernel of its host. A virtual machine whose clock only the hypervisor sets, or a kernel
whose clock nobody keeps, is unsynchronised, because nobody vouches for it. Where the kernel cannot
be asked, the date alone decides.

Nothing is refused or held back for the word: it stands in each record and in the answer of
``/time``, for whoever reads them. What needs a true date (certificates) asks for a plausible one
only.
"""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Final, Protocol


class Clock(Protocol):
    """``monotonic`` for every timer, ``wall`` for what people and other machines read."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        ...

    def wall(self) -> float:
        """UTC seconds since 1970."""
        ...

    def synchronised(self) -> bool:
        """Whether ``wall`` can be trusted."""
        ...


_EARLIEST_PLAUSIBLE: Final = 1_790_000_000.0
"""2026-09: a Raspberry Pi has no clock of its own and starts in the past."""

_STA_UNSYNC: Final = 0x0040
_TIMEX_BYTES: Final = 208
"""``struct timex`` (adjtimex(2)), whose layout is that of <sys/timex.h> on 64-bit Linux."""
_STATUS_AT: Final = 40
_ASK_AGAIN_S: Final = 1.0


def plausible(wall: float) -> bool:
    """Whether this program existed at ``wall``: before, every certificate is not yet valid."""
    return wall > _EARLIEST_PLAUSIBLE


def kernel_synchronised() -> bool | None:
    """The kernel's own opinion of its clock; None where it cannot be asked."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return None  # another layout
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # no modes: asks, changes nothing
    try:
        state = ctypes.CDLL(None).adjtimex(timex)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None  # forbidden, or not there: a sandbox
    return not int.from_bytes(timex.raw[_STATUS_AT : _STATUS_AT + 4], sys.byteorder) & _STA_UNSYNC


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self._kernel: bool | None = None
        self._asked_at = float("-inf")

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def synchronised(self) -> bool:
        """See the module. The kernel is asked once a second at most."""
        now = time.monotonic()
        if now - self._asked_at >= _ASK_AGAIN_S:
            self._asked_at, self._kernel = now, kernel_synchronised()
        return self._kernel is not False and plausible(time.time())


def iso(wall: float) -> str:
    """UTC seconds since 1970 as ISO 8601, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))
