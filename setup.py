"""Building a wheel compiles the hot path, where a C compiler is there.

The modules below are typed Python and run as they are; mypyc turns the same files into extension
modules, in which a record costs less CPU time (README, *Speed*). A checkout that is installed
editable stays uncompiled, so that what runs is what was last saved. ``WARD_GATEWAY_COMPILE=0``
builds without, ``=1`` fails where it cannot.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import setup

HOT = (
    "gateway/lane.py",
    "gateway/endpoint.py",
    "gateway/coap/numbers.py",
    "gateway/coap/message.py",
    "gateway/coap/options.py",
    "gateway/coap/fastlane.py",
    "gateway/coap/exchanges.py",
    "gateway/dtls/records.py",
    "gateway/dtls/association.py",
    "gateway/dtls/cookie.py",
    "gateway/dtls/flights.py",
    "gateway/dtls/handshake.py",
    "gateway/dtls/server.py",
    "gateway/senml/record.py",
    "gateway/senml/layout.py",
    "gateway/senml/labels.py",
    "gateway/senml/shapes.py",
    "gateway/senml/senml_cbor.py",
    "gateway/senml/resolve.py",
    "gateway/senml/pack.py",
    "gateway/vitals/patient.py",
    "gateway/vitals/observations.py",
    "gateway/vitals/assessment.py",
    "gateway/vitals/run.py",
    "gateway/vitals/triage.py",
    *sorted(str(path) for path in Path("gateway/vitals/rules").glob("[!_]*.py")),
    "gateway/cose/record.py",
    "gateway/cose/cbor.py",
    "gateway/cose/encrypt0.py",
    "gateway/cose/epochs.py",
    "gateway/outbox/row.py",
    "gateway/outbox/entry.py",
    "gateway/outbox/room.py",
    "gateway/outbox/leases.py",
    "gateway/recent_keys.py",
    "gateway/intake.py",
    "gateway/ingress/addresses.py",
    "gateway/ingress/answers.py",
    "gateway/ingress/backlog.py",
    "gateway/ingress/batch.py",
    "gateway/ingress/driver.py",
    "gateway/ingress/rate.py",
)
"""What every datagram goes through, as far as it is Python."""


def extensions() -> list[object]:
    """The compiled modules, or none."""
    wish = os.environ.get("WARD_GATEWAY_COMPILE", "")
    if wish == "0" or not {"bdist_wheel", "build_ext"} & set(sys.argv):
        return []
    header = Path(sysconfig.get_path("include")) / "Python.h"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if not header.exists() or not shutil.which(compiler):
        if wish == "1":
            raise SystemExit(f"cannot compile: {compiler} or {header} is missing")
        return []
    from mypyc.build import mypycify

    # Types are checked strictly elsewhere; here what is not installed counts as untyped.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    return list(mypycify([*options, *HOT], opt_level="3", debug_level="0"))


setup(ext_modules=extensions())
