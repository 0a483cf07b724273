"""A program: coverage-guided fuzzing (atheris, libFuzzer) of every target at once.

Arguments: `plain` or `planted`, then libFuzzer's. An input's first byte chooses the target. Ends
with libFuzzer's exit code; what an input broke stands in the traceback.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from gateway.cose import cbor
    from tests.experiments.rigs.fuzz_targets import TARGETS

_TARGETS = list(TARGETS.values())
_NAMES = list(TARGETS)


def _feed(data: bytes) -> None:
    if data:
        place = data[0] % len(_TARGETS)
        try:
            _TARGETS[place].feed(data[1:])
        except Exception:
            sys.stderr.write(f"\nBROKEN {_NAMES[place]} {data[1:].hex()}\n")
            raise


def _plant() -> None:
    """A text that is not UTF-8 is not looked for."""
    take = cbor.Reader._take

    def text(self: cbor.Reader, limit: int) -> str:
        return take(self, min(self.head(cbor.TEXT), limit)).decode()

    cbor.Reader.text = text  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv.pop(1) == "planted":
        _plant()
    atheris.Setup(sys.argv, _feed)
    atheris.Fuzz()
