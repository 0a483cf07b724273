"""Where the things of a ward are, for the commands that change them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gateway.config import loading
from gateway.roster.devices import Devices
from gateway.roster.recipients import Recipients

if TYPE_CHECKING:
    import argparse

    from gateway.config.loading import Loaded


def loaded(args: argparse.Namespace) -> Loaded:
    """The configuration in force. Raises ConfigError."""
    return loading.load(args.config, os.environ)


def devices(configuration: Loaded) -> Devices:
    """The device registry. Raises ConfigError."""
    return Devices(configuration.configuration.gateway.state / "devices.json")


def recipients(configuration: Loaded) -> Recipients:
    """The recipients. Raises ConfigError."""
    return Recipients(configuration.configuration.gateway.state / "recipients.json")
