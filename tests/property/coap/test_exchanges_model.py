"""Exchanges against a model that keeps everything for ever and judges by the clock alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.coap.exchanges import Exchanges, InProgress, New, Replay, Seen
from gateway.coap.numbers import EXCHANGE_LIFETIME

Key = tuple[int, int]
KEYS = st.tuples(st.integers(1, 2), st.integers(0, 2))


@dataclass
class Model:
    """Per key: how many messages are in progress, whether they differ, the last answer."""

    pending: dict[Key, int] = field(default_factory=dict)
    digest: dict[Key, int | None] = field(default_factory=dict)
    expires: dict[Key, float] = field(default_factory=dict)
    answered: dict[Key, tuple[int, float, bytes]] = field(default_factory=dict)

    def begin(self, key: Key, digest: int, now: float) -> Seen:
        if self.pending.get(key) and self.expires[key] > now:
            if self.digest[key] == digest:
                return InProgress()
            self.pending[key] += 1
            self.digest[key] = None
        else:
            known, until, answer = self.answered.get(key, (None, 0.0, b""))
            if known == digest and until > now:
                return Replay(answer)
            self.pending[key] = 1
            self.digest[key] = digest
        self.expires[key] = now + EXCHANGE_LIFETIME
        return New()

    def end(self, key: Key, answer: bytes | None) -> None:
        if not self.pending.get(key):
            return
        self.pending[key] -= 1
        digest = self.digest[key]
        if not self.pending[key] and digest is not None and answer is not None:
            self.answered[key] = (digest, self.expires[key], answer)

    def sweep(self, now: float) -> None:
        for key, until in self.expires.items():
            if until <= now:
                self.pending[key] = 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), KEYS, st.integers(0, 1)),
        st.tuples(st.just("finish"), KEYS, st.integers(0, 1)),
        st.tuples(st.just("forget"), KEYS, st.just(0)),
        st.tuples(st.just("wait"), KEYS, st.sampled_from([0, 1, 123, 124, 246, 247, 500])),
    ),
    max_size=80,
)


@given(STEPS)
def test_exchanges_do_what_the_model_does(steps: list[tuple[str, Key, int]]) -> None:
    exchanges, model, now = Exchanges(), Model(), 1000.0
    for step, (association, mid), value in steps:
        key = (association, mid)
        if step == "begin":
            seen = exchanges.begin(association, mid, value, now)
            assert seen == model.begin(key, value, now)
        elif step == "finish":
            exchanges.finish(association, mid, bytes([value]), now)
            model.end(key, bytes([value]))
        elif step == "forget":
            exchanges.forget(association, mid)
            model.end(key, None)
        else:
            now += value
            # What never finished is only forgotten by a sweep; the driver makes one every
            # few seconds, so both are swept whenever time passes.
            exchanges.sweep(now)
            model.sweep(now)


@given(STEPS, st.integers(2, 6))
def test_a_small_table_never_answers_wrongly_and_never_outgrows_its_cap(
    steps: list[tuple[str, Key, int]], cap: int
) -> None:
    """Full, it may forget answers (New) or shed (InProgress), but not replay another's."""
    exchanges, now = Exchanges(cap), 0.0
    answers: dict[tuple[Key, int], set[bytes]] = {}
    begun: dict[Key, set[int]] = {}
    for step, (association, mid), value in steps:
        key = (association, mid)
        if step == "begin":
            seen = exchanges.begin(association, mid, value, now)
            if isinstance(seen, New):
                begun.setdefault(key, set()).add(value)
            elif isinstance(seen, Replay):
                assert seen.answer in answers[key, value]
        elif step == "finish":
            answer = bytes([value, mid, association])
            exchanges.finish(association, mid, answer, now)
            for digest in begun.get(key, ()):
                answers.setdefault((key, digest), set()).add(answer)
        elif step == "forget":
            exchanges.forget(association, mid)
        else:
            now += value
        assert len(exchanges) <= 2 * cap
