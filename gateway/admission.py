"""Who may stay: ends the associations of devices that may not come any more.

A handshake looks at the roster and at a certificate's dates once, an association lives for days.
So this looks again, every time it is called: a device that is revoked or comes back with another
key or certificate, and a certificate that runs out, end what was agreed with the old one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.dtls.server import Server
    from gateway.roster.ward import Ward

_log = logging.getLogger("admission")


class Admission:
    """Holds the table of associations to what the rosters say."""

    def __init__(self, ward: Ward, server: Server) -> None:
        self._ward = ward
        self._server = server
        self._proofs = self._current()

    def refresh(self, today: str) -> None:
        """Take in what has changed. ``today``: ISO 8601, UTC, to the second.

        A roster that cannot be read stays as it was, and the log says so.
        """
        self._end(self._expired(today), "certificate expired")
        changed = True
        try:
            changed = self._ward.refresh()
        except ConfigError as error:
            _log.error("a roster stays as it was: %s", error)
        finally:
            # Whatever became of one roster, the other may have changed.
            if changed:
                self._compare()

    def _compare(self) -> None:
        before, self._proofs = self._proofs, self._current()
        gone = [device for device, proof in before.items() if self._proofs.get(device) != proof]
        self._end(gone, "revoked")
        _log.info("rosters read again: %d devices may come", len(self._proofs))

    def _expired(self, today: str) -> list[str]:
        """Those that are connected all the same: a handshake may end after the certificate that it
        began with, and a clock that was set back lets one in again."""
        passed = self._ward.devices.expiring(today)
        return [device for _, device in passed if self._server.of_device(device)]

    def _end(self, devices: list[str], why: str) -> None:
        connected = [device for device in devices if self._server.of_device(device)]
        for device in devices:
            self._server.close(device, why)  # handshakes under way too
        if connected:
            # One line for all: lines of one kind are thinned out.
            _log.warning("associations ended, %s: %s", why, ", ".join(connected))

    def _current(self) -> dict[str, str]:
        """Device -> what it proves itself by."""
        return {
            one.id: one.fingerprint or one.key_hex
            for one in self._ward.devices.all()
            if one.revoked is None
        }
