"""The reference cloud store, with a note of when each upload of emergencies reached it.

Arguments: cloud.toml, and the file for the notes: a JSON object a line, ``at`` (seconds of
CLOCK_MONOTONIC, which all processes of a machine share) and ``ids`` (the records of the upload).

Noted when the request's head has been read, behind TLS, whatever the store was doing before: a
little after the first byte came, never before.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import cloud.app
from cloud.api import Api
from gateway import cli

if TYPE_CHECKING:
    from aiohttp import web

    from cloud.auth import Principal

with open(sys.argv[2], "a", buffering=1) as notes:

    class Watched(Api):
        """The API itself, with a clock at one of its doors."""

        async def post_alarms(self, request: web.Request, principal: Principal) -> web.Response:
            at = time.perf_counter()
            response = await super().post_alarms(request, principal)
            assert isinstance(response.body, bytes)
            receipt = json.loads(response.body)
            notes.write(json.dumps({"at": at, "ids": receipt["stored"] + receipt["known"]}) + "\n")
            return response

    cloud.app.Api = Watched
    sys.exit(cli.main(["cloud", "run", "--config", sys.argv[1]]))
