"""The way to the cloud store: who we are there, and by which TLS."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from certs import files
from gateway import sinks
from gateway.errors import ConfigError
from gateway.registry import load_all

if TYPE_CHECKING:
    from gateway.config.loading import Loaded
    from gateway.lane import Lane


def cloud_sink(loaded: Loaded, lane: Lane) -> sinks.Sink:
    """The way to the ward's cloud store. Raises ConfigError."""
    load_all(sinks)
    section = loaded.configuration.gateway
    identity = sinks.Identity(
        section.name, files.load_private(section.key), _client_context(loaded)
    )
    make: Any = sinks.sinks.get("cloud")
    sink: sinks.Sink = make(make.Config(url=loaded.configuration.cloud.url), lane, identity)
    return sink


def _client_context(loaded: Loaded) -> ssl.SSLContext:
    """TLS towards the cloud store: our certificate, their authority. Raises ConfigError."""
    section = loaded.configuration.gateway
    try:
        context = ssl.create_default_context(cafile=section.ca)
        context.load_cert_chain(section.certificate, section.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            [
                f"{loaded.path}: [gateway] certificate, key, ca: cannot be used for TLS ({error}); "
                f"they are {section.certificate}, {section.key}, {section.ca}"
            ]
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
