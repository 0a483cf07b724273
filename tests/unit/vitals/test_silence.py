"""Who is not heard any more: after two periods, whatever radio, restart or clock make of it."""

from __future__ import annotations

import pytest

from gateway.vitals.silence import DEAF_S, SLACK_S, Config, Silence, Silent, Watch

SWEEP_S = 0.25
FLOOR_S = 2 * Config().shortest_period_s + SLACK_S


class Ward:
    """A watch, heard and swept on one clock."""

    def __init__(self, silence: Silence | None = None, now: float = 0.0) -> None:
        self.silence = silence or Silence(Config())
        self.now = now
        self.silent: list[tuple[float, str]] = []

    def until(self, time: float) -> None:
        while self.now < time:
            self.now += SWEEP_S
            self.silent += [(self.now, one.device) for one in self.silence.sweep(self.now)]

    def hear(self, *times: float, device: str = "b") -> None:
        """Messages at these times; sweeps between."""
        for time in times:
            self.until(time)
            if self.silence.heard(device, "P", "2026", self.now):
                self.silence.back(device)

    def every(self, period: float, count: int, device: str = "b") -> float:
        start = self.now
        self.hear(*(start + period * number for number in range(count)), device=device)
        return self.now


@pytest.mark.parametrize("period", [0.25, 1.0, 10.0, 15.0, 40.0, 300.0, 900.0])
def test_two_missed_periods_are_silence(period: float) -> None:
    """Within a second; never earlier than 30 s."""
    ward = Ward()
    last = ward.every(period, 40)
    ward.silent.clear()
    ward.until(last + 3 * max(period, 15.0))
    [(at, device)] = ward.silent
    assert device == "b"
    assert abs(at - last - 2 * max(period, 15.0)) <= 1.0


def test_it_is_said_once_and_again_after_a_return() -> None:
    ward = Ward()
    ward.every(10.0, 10)
    ward.until(ward.now + 500)
    assert len(ward.silent) == 1
    ward.hear(ward.now + 1)
    ward.until(ward.now + 20)
    assert len(ward.silent) == 1
    ward.until(ward.now + 50)
    assert len(ward.silent) == 2


def test_what_is_known_of_the_silent() -> None:
    silence = Silence(Config())
    for second in range(0, 100, 20):
        silence.heard("b", "P", "2026", float(second))
    assert silence.sweep(120.4) == []
    assert silence.sweep(120.5) == [Silent("b", "P", 40.5, 20.0)]


def test_a_lossy_radio_is_no_silence() -> None:
    """A try in five is lost, and sent again after 2, 4 and 8 s; late packs come close together."""
    ward = Ward()
    for number in range(200):
        ward.hear(20.0 * number + (0.0, 0.0, 2.5, 0.0, 14.0)[number % 5])
    assert ward.silent == []


@pytest.mark.parametrize("visit", [(0.0, 0.25, 0.5), (0.0, 2.0, 4.0), (0.0, 5.0)])
def test_packs_that_come_together_are_no_short_period(visit: tuple[float, ...]) -> None:
    ward = Ward()
    start = 0.0
    for number in range(40):
        start = 60.0 * number
        ward.hear(*(start + offset for offset in visit))
    ward.silent.clear()
    ward.until(start + 300)
    [(at, _)] = ward.silent
    assert abs(at - start - visit[-1] - 2 * (60.0 - visit[-1])) <= 6.0


def test_a_device_that_slows_down_is_learned() -> None:
    ward = Ward()
    ward.every(10.0, 20)
    ward.every(100.0, 20)
    assert len(ward.silent) <= 6
    before = len(ward.silent)
    ward.every(100.0, 20)
    assert len(ward.silent) == before


def test_long_absences_do_not_become_normal() -> None:
    """Two hours out of reach, an hour each: missed after two minutes at most."""
    ward = Ward()
    for _ in range(2):
        ward.every(15.0, 3)
        ward.until(ward.now + 3600)
    last = ward.every(15.0, 3)
    ward.silent.clear()
    ward.until(last + 125)
    assert len(ward.silent) == 1


def test_a_device_heard_once_is_watched() -> None:
    ward = Ward()
    ward.hear(0.0)
    ward.until(119.0)
    assert ward.silent == []
    ward.until(121.0)
    assert len(ward.silent) == 1


def test_a_gateway_that_is_always_late_misses_a_device_too() -> None:
    silence = Silence(Config())
    silence.restore(Watch("d", "P", "2026", 15.0, known=True), 0.0, silent=False)
    found = [one.device for n in range(1, 200) for one in silence.sweep(n * (DEAF_S + 0.2))]
    assert found == ["d"]


def test_two_hundred_at_once_are_told_in_one_sweep() -> None:
    ward = Ward()
    for number in range(200):
        ward.silence.heard(f"b{number}", "P", "2026", 0.0)
    ward.until(121.0)
    assert len({at for at, _ in ward.silent}) == 1
    assert len(ward.silent) == 200


def restarted(silence: Silence, now: float, *, silent: bool = False) -> Silence:
    """What a new process makes of all that the old one has kept."""
    again = Silence(Config())
    for watch in silence.to_keep():
        again.restore(watch, now, silent=silent)
    return again


def test_after_a_restart_each_has_two_periods_of_its_own() -> None:
    ward = Ward()
    ward.every(100.0, 20)
    ward = Ward(restarted(ward.silence, 5.0), now=5.0)  # another boot: the clock starts again
    ward.until(204.0)
    assert ward.silent == []
    ward.until(206.0)
    assert len(ward.silent) == 1


def test_one_that_was_silent_before_a_restart_is_not_said_again_and_comes_back() -> None:
    ward = Ward()
    ward.every(10.0, 20)
    again = restarted(ward.silence, 0.0, silent=True)
    assert again.sweep(100.0) == []
    assert again.heard("b", "P", "2026", 101.0)
    assert again.back("b")
    assert not again.back("b")
    assert not again.heard("b", "P", "2026", 102.0)


def test_the_period_is_kept_when_it_changes_and_not_with_every_message() -> None:
    ward = Ward()
    kept = []
    for _ in range(50):
        ward.every(20.0, 2)
        ward.until(ward.now + 20.0)
        kept += ward.silence.to_keep()
    assert 1 <= len(kept) <= 3
    assert kept[-1].period_s == pytest.approx(20.0, abs=1)


def test_a_time_in_which_the_gateway_was_stopped_is_not_theirs() -> None:
    silence = Silence(Config())
    for second in range(60):
        silence.heard("b", "P", "2026", float(second))
        silence.sweep(float(second))
    assert silence.sweep(159.0) == []
    assert silence.sweep(160.0) == []
    ward = Ward(silence, 160.0)
    ward.until(159.0 + FLOOR_S + 1)
    assert len(ward.silent) == 1


def test_the_watch_ends_with_the_roster_only() -> None:
    silence = Silence(Config())
    silence.heard("b", "P", "2026", 0.0)
    silence.heard("c", "P", "2026", 0.0)
    assert silence.keep_only(lambda device, patient, added: device == "c") == ["b"]
    assert [watch.device for watch in silence.to_keep()] == ["c"]
    assert [one.device for one in silence.sweep(200.0)] == ["c"]
    assert len(silence) == 1


def test_a_device_that_comes_back_for_another_patient_is_another() -> None:
    silence = Silence(Config())
    for second in range(0, 200, 10):
        silence.heard("b", "P", "2026", float(second))
    silence.to_keep()
    assert silence.heard("b", "Q", "2027", 191.0)
    [watch] = silence.to_keep()
    assert (watch.patient, watch.added, watch.known) == ("Q", "2027", False)


def test_bounds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="shortest_period_s <= first_period_s"):
        Config(shortest_period_s=100.0)
