"""Repetitions, message by message."""

from __future__ import annotations

from gateway.coap.exchanges import Exchanges, InProgress, New, Replay
from gateway.coap.numbers import EXCHANGE_LIFETIME, NON_LIFETIME


def test_a_message_is_new_then_in_progress_then_answered_again() -> None:
    exchanges = Exchanges()
    assert exchanges.begin(1, 7, 99, 0.0) == New()
    assert exchanges.begin(1, 7, 99, 1.0) == InProgress()
    exchanges.finish(1, 7, b"answer", 2.0)
    assert exchanges.begin(1, 7, 99, 3.0) == Replay(b"answer")
    assert exchanges.begin(1, 7, 99, 4.0) == Replay(b"answer")


def test_associations_and_ids_are_apart() -> None:
    exchanges = Exchanges()
    exchanges.begin(1, 7, 99, 0.0)
    assert exchanges.begin(2, 7, 99, 0.0) == New()
    assert exchanges.begin(1, 8, 99, 0.0) == New()


def test_an_answer_lives_for_the_exchange_and_no_longer() -> None:
    exchanges = Exchanges()
    exchanges.begin(1, 7, 99, 0.0)
    exchanges.finish(1, 7, b"answer", 200.0)
    assert exchanges.begin(1, 7, 99, EXCHANGE_LIFETIME - 0.1) == Replay(b"answer")
    assert exchanges.begin(1, 7, 99, EXCHANGE_LIFETIME) == New()


def test_a_non_confirmable_message_lives_shorter() -> None:
    exchanges = Exchanges()
    exchanges.begin(1, 7, 99, 0.0, NON_LIFETIME)
    exchanges.finish(1, 7, b"", 0.0)
    assert exchanges.begin(1, 7, 99, NON_LIFETIME - 0.1, NON_LIFETIME) == Replay(b"")
    assert exchanges.begin(1, 7, 99, NON_LIFETIME, NON_LIFETIME) == New()


def test_what_was_forgotten_is_new() -> None:
    exchanges = Exchanges()
    exchanges.begin(1, 7, 99, 0.0)
    exchanges.forget(1, 7)
    assert exchanges.begin(1, 7, 99, 0.0) == New()


def test_what_never_finishes_is_new_again_in_the_end() -> None:
    exchanges = Exchanges()
    exchanges.begin(1, 7, 99, 0.0)
    assert exchanges.begin(1, 7, 99, EXCHANGE_LIFETIME - 0.1) == InProgress()
    assert exchanges.begin(1, 7, 99, EXCHANGE_LIFETIME) == New()


def test_other_bytes_under_an_answered_id_are_new_and_counted() -> None:
    exchanges = Exchanges()
    exchanges.begin(1, 7, 99, 0.0)
    exchanges.finish(1, 7, b"first", 0.0)
    assert exchanges.begin(1, 7, -99, 1.0) == New()
    assert exchanges.reused == 1
    exchanges.finish(1, 7, b"second", 1.0)
    assert exchanges.begin(1, 7, -99, 2.0) == Replay(b"second")


def test_of_two_messages_in_progress_under_one_id_no_answer_is_remembered() -> None:
    """The second must not be told 2.04 because the first was stored."""
    exchanges = Exchanges()
    exchanges.begin(1, 7, 99, 0.0)
    assert exchanges.begin(1, 7, 100, 0.0) == New()
    exchanges.finish(1, 7, b"first", 0.0)
    assert exchanges.begin(1, 7, 100, 0.0) == New()
    exchanges.finish(1, 7, b"second", 0.0)
    exchanges.finish(1, 7, b"third", 0.0)
    assert len(exchanges) == 0
    assert exchanges.begin(1, 7, 100, 0.0) == New()


def test_one_of_two_forgotten_leaves_the_other_in_progress() -> None:
    exchanges = Exchanges()
    exchanges.begin(1, 7, 99, 0.0)
    exchanges.begin(1, 7, 100, 0.0)
    exchanges.forget(1, 7)
    assert len(exchanges) == 1
    exchanges.forget(1, 7)
    assert len(exchanges) == 0


def test_finishing_what_is_not_in_progress_does_nothing() -> None:
    exchanges = Exchanges()
    exchanges.finish(1, 7, b"answer", 0.0)
    exchanges.forget(1, 7)
    assert len(exchanges) == 0


def test_the_table_does_not_grow_beyond_its_cap() -> None:
    exchanges = Exchanges(cap=100)
    for mid in range(1000):
        exchanges.begin(1, mid, mid, 0.0)
        exchanges.finish(1, mid, b"answer", 0.0)
    assert len(exchanges) <= 100
    assert exchanges.begin(1, 999, 999, 0.0) == Replay(b"answer")
    assert exchanges.begin(1, 950, 950, 0.0) == Replay(b"answer")


def test_the_generation_before_is_still_remembered() -> None:
    exchanges = Exchanges(cap=100)
    for mid in range(60):
        exchanges.begin(1, mid, mid, 0.0)
        exchanges.finish(1, mid, b"answer", 0.0)
    assert exchanges.begin(1, 0, 0, 0.0) == Replay(b"answer")


def test_rotation_keeps_what_is_in_progress() -> None:
    exchanges = Exchanges(cap=10)
    exchanges.begin(2, 1, 5, 0.0)
    for mid in range(100):
        exchanges.begin(1, mid, mid, 0.0)
        exchanges.finish(1, mid, b"answer", 0.0)
    assert exchanges.begin(2, 1, 5, 0.0) == InProgress()


def test_beyond_the_cap_a_message_is_dropped_until_there_is_room() -> None:
    exchanges = Exchanges(cap=2)
    exchanges.begin(1, 1, 1, 0.0)
    exchanges.begin(1, 2, 2, 0.0)
    assert exchanges.begin(1, 3, 3, 0.0) == InProgress()
    assert exchanges.shed == 1
    exchanges.finish(1, 1, b"", 0.0)
    assert exchanges.begin(1, 3, 3, 0.0) == New()
    assert exchanges.begin(1, 4, 4, EXCHANGE_LIFETIME) == New()


def test_sweeping_frees_everything_in_the_end() -> None:
    exchanges = Exchanges()
    for mid in range(10):
        exchanges.begin(1, mid, 1, 0.0)
    for mid in range(5):
        exchanges.finish(1, mid, b"answer", 0.0)
    exchanges.sweep(EXCHANGE_LIFETIME)
    exchanges.sweep(2 * EXCHANGE_LIFETIME)
    assert len(exchanges) == 0


def test_what_is_renewed_does_not_keep_others_from_expiring() -> None:
    """A device that reuses an ID for ever holds its own entry, not everybody's."""
    exchanges = Exchanges(cap=3)
    exchanges.begin(1, 1, 1, 0.0)
    exchanges.begin(2, 1, 1, 0.0)
    exchanges.begin(3, 1, 1, 0.0)
    exchanges.begin(1, 1, 2, EXCHANGE_LIFETIME - 1)
    exchanges.sweep(EXCHANGE_LIFETIME)
    assert len(exchanges) == 1
    assert exchanges.begin(4, 1, 1, EXCHANGE_LIFETIME) == New()


def test_what_begins_again_after_its_time_does_not_either() -> None:
    exchanges = Exchanges(cap=2)
    exchanges.begin(1, 1, 1, 0.0)
    exchanges.begin(2, 1, 1, 1.0)
    assert exchanges.begin(1, 1, 1, EXCHANGE_LIFETIME) == New()
    exchanges.sweep(EXCHANGE_LIFETIME + 1)
    assert len(exchanges) == 1


def test_one_answer_of_two_leaves_the_order_as_it_was() -> None:
    exchanges = Exchanges()
    exchanges.begin(1, 1, 1, 0.0)
    exchanges.begin(1, 1, 2, 0.0)
    exchanges.begin(2, 1, 1, 10.0)
    exchanges.finish(1, 1, b"first", 11.0)
    exchanges.sweep(EXCHANGE_LIFETIME)
    assert len(exchanges) == 1
