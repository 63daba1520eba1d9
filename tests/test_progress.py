"""What is told of work that takes time, where standard error is no terminal."""

from __future__ import annotations

import re
import time

import pytest

from wordsight import progress


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(progress, "_spoken", time.monotonic())


def lines(capsys: pytest.CaptureFixture[str], number: int) -> list[str]:
    """Wait for so many lines on standard error."""
    told, end = "", time.monotonic() + 20
    while told.count("\n") < number and time.monotonic() < end:
        time.sleep(0.01)
        told += capsys.readouterr().err
    return told.splitlines()


def test_bytes_that_come_and_bytes_that_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.transfer("a file", had=2_000) as report:
        report(2_000, 20_000)
        (first,) = lines(capsys, 1)[:1]
        report(5_000, 20_000)
        later = lines(capsys, 3)
    assert first == "a file: 2.0 KB are here; waiting for the server"
    assert any(re.match(r"a file: 5\.0 KB of 20\.0 KB, .*B/s, .* left", line) for line in later)
    assert later[-1] == "a file: 5.0 KB are here; waiting for the server"
    assert capsys.readouterr().out == ""


def test_what_was_silent_before_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", 6000)
    monkeypatch.setattr(progress, "_spoken", time.monotonic() - 4000)
    assert progress._first_pause() <= 2000
    monkeypatch.setattr(progress, "_spoken", time.monotonic() - 9000)
    assert progress._first_pause() == 1500
    progress.said()
    assert 5000 < progress._first_pause() <= 6000


def test_a_wait_is_told_again_and_again_and_a_short_one_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress.waiting("waiting for Godot"):
        told = lines(capsys, 2)
    assert set(told) == {"waiting for Godot"}
    capsys.readouterr()
    with progress.waiting("waiting for Godot"):
        pass
    assert capsys.readouterr().err == ""
