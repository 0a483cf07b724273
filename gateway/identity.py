"""Who this gateway is: its key, its certificate and the authority behind it, as files say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certs import files, verify
from gateway.dtls.credentials import Identity
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config.loading import Loaded


def load(loaded: Loaded) -> Identity:
    """What the gateway shows to nodes, signs with and believes. Raises ConfigError."""
    section = loaded.configuration.gateway
    certificate, key = files.load_pair(section.certificate, section.key)
    authority = files.load_certificate(section.ca)
    if verify.name_of(certificate) != section.name:
        raise ConfigError(
            [
                f"{loaded.path}: [gateway] name: {section.name!r} is not the name in "
                f"{section.certificate} ({verify.name_of(certificate)!r})"
            ]
        )
    return Identity(certificate, key, authority)
