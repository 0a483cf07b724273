"""What kinds of certificate the authority issues: one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.x509.oid import ExtendedKeyUsageOID

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of certificate."""

    role: str
    """The subject's OU: what the bearer is."""

    days: int
    """Validity unless asked otherwise."""

    usages: tuple[x509.ObjectIdentifier, ...]
    """Extended key usage; empty for the authority itself."""

    hosts: bool = False
    """Whether the bearer is a server, with its addresses in the certificate."""


_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH

CA = Profile(role="ca", days=3650, usages=())
GATEWAY = Profile(role="gateway", days=730, usages=(_CLIENT, _SERVER), hosts=True)
CLOUD_STORE = Profile(role="cloud-store", days=730, usages=(_SERVER,), hosts=True)
PATIENT = Profile(role="patient", days=365, usages=(_CLIENT,))
DOCTOR = Profile(role="doctor", days=365, usages=(_CLIENT,))
ALARM_CENTRE = Profile(role="alarm-centre", days=365, usages=(_CLIENT,))
ADMIN = Profile(role="admin", days=365, usages=(_CLIENT,))
AUDITOR = Profile(role="auditor", days=365, usages=(_CLIENT,))
DEVICE = Profile(role="device", days=730, usages=(_CLIENT,))
"""A node. As long as the gateway's own: who replaces one goes round the ward for the other."""

PROFILES = {
    profile.role: profile
    for profile in (GATEWAY, CLOUD_STORE, PATIENT, DOCTOR, ALARM_CENTRE, ADMIN, AUDITOR, DEVICE)
}
"""What the authority issues, by role. The authority's own certificate is not among them."""

RECIPIENTS = (PATIENT, DOCTOR, ALARM_CENTRE, ADMIN, AUDITOR)
"""The roles of people and desks."""
