"""The benchmark of an accelerator, where there is none: what it computes, shares out and says."""

import argparse
import json
from types import SimpleNamespace

import keras
import pytest

from benchmarks.accelerator import __main__ as command
from benchmarks.accelerator import bandwidth, parts, race
from benchmarks.accelerator.bandwidth import COPY, NAGD, NARROW
from benchmarks.accelerator.budget import Clock
from benchmarks.support import child, table


def said(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_copy_moves_as_many_bytes_as_the_update():
    copied = bandwidth.elements_copied(10**8)
    assert copied * bandwidth.OF_COPY == 10**8 * bandwidth.OF_GRADIENT == 2 * 10**9
    assert (bandwidth.OF_NARROW, bandwidth.OF_SECOND_SLOT) == (16, 28)


def test_shares_of_the_copys_bandwidth():
    rows = {COPY: {"ms": 0.5}, NAGD: {"ms": 0.625}, NARROW: {"ms": 0.5}, "peer": {"error": "none"}}
    sizes = dict.fromkeys(rows, bandwidth.OF_GRADIENT) | {NARROW: bandwidth.OF_NARROW}
    found = bandwidth.moved(rows, 10**8, sizes)
    assert found == {
        COPY: {"GB/s": 4000.0, "of the copy": 1.0},
        NAGD: {"GB/s": 3200.0, "of the copy": 0.8},
        NARROW: {"GB/s": 3200.0, "of the copy": 0.8},
    }
    assert bandwidth.moved({NAGD: {"ms": 0.625}}, 10**8, sizes) == {NAGD: {"GB/s": 3200.0}}


def test_the_verdict():
    row = {"section": "jax", "table": "x", "contestant": NAGD}
    rows = [row, {**row, "of the copy": 0.849}, {**row, "of the copy": 0.85}]
    missed, reached = bandwidth.verdicts([*rows, {**rows[1], "contestant": "another"}])
    assert missed.endswith("moves 85% of what a copy does; wanted: 85%, missed")
    assert reached.endswith("wanted: 85%")
    row = {"table": "x", "contestant": NAGD, "ms": 2.0, "of the copy": 0.85}
    assert table.line(row).endswith("2.000 ms    85% of the copy")


def test_what_one_does_not_need_is_left_to_the_others():
    now = [100.0]
    clock = Clock.of(60.0, lambda: now[0])
    assert clock.first([1, 2]).left() == 20
    assert clock.earlier(15).left() == 45
    now[0] += 6  # The first was done early.
    assert clock.first([2]).left() == 54
    now[0] += 100
    assert clock.left() == clock.first([1, 1]).left() == 0


@pytest.mark.parametrize(("seconds", "calls"), [(1e-6, 50), (5e-4, 40), (0.019, 1), (3.0, 1)])
def test_bursts_are_some_work_long(seconds, calls):
    assert race.calls_of(seconds, 2.0) == calls


def test_a_burst_is_waited_for_once():
    made, waited = iter(range(9)), []
    race.burst(lambda: next(made), waited.append, 3)()
    assert waited == [2]


def broken():
    raise MemoryError("no room")


def test_what_cannot_be_made_is_said_and_the_rest_goes_on(capsys):
    now = [0.0]
    clock = Clock(10.0, lambda: now[0])

    def late():
        now[0] = 11.0
        return lambda: None

    makers = {"a": lambda: lambda: None, "b": broken, "c": late, "d": lambda: lambda: None}
    report = child.Report(0.01, 3)
    race.race(report, lambda result: None, clock, "table", makers, ["a"])
    rows = {row["contestant"]: row for row in said(capsys)}
    assert rows["b"]["error"] == "MemoryError: no room"
    assert rows["d"]["error"] == race.NO_TIME
    assert rows["a"]["ratio to a"] == 1
    assert {"ms", "rounds", "first s", "ratio to a"} <= set(rows["c"])


def side(kind="cpu"):
    return SimpleNamespace(NAME="Name", PEERS="none_such", device=lambda: (kind, "x"))


def test_without_an_accelerator_a_sentence(capsys):
    parts._measure(side(), child.Report(0.01, 1), Clock.of(1), [*parts.PARTS])
    (row,) = said(capsys)
    assert row["contestant"] == "Name x"
    assert row["error"].startswith("no accelerator")


def test_a_part_that_fails_and_peers_that_are_missing(capsys, monkeypatch):
    monkeypatch.setattr(parts.Part, "bandwidth", lambda self: broken())
    monkeypatch.setattr(parts.Part, "small", lambda self: self.report.row("t", "c", ms=1))
    parts._measure(side("gpu"), child.Report(0.01, 1), Clock.of(1), ["bandwidth", "small"])
    rows = said(capsys)
    assert [row["begun"] for row in rows if "begun" in row] == ["bandwidth", "small"]
    errors = [row["error"] for row in rows if "error" in row]
    assert errors == ["not installed: its rows are left out", "MemoryError: no room"]
    assert {"table": "t", "contestant": "c", "ms": 1} in rows


def test_parts_behind_a_process_that_breaks_are_made_by_another(monkeypatch):
    asked = []

    def process(backend, parts, clock, arguments):
        asked.append(parts)
        for part in parts:
            yield {"begun": part}
            if part == "b":
                raise RuntimeError("exit status -11")
            yield {"table": part, "contestant": "x", "ms": 1.0}

    monkeypatch.setattr(command, "_process", process)
    arguments = argparse.Namespace(parts=["a", "b", "c"])
    rows = list(command._rows("jax", Clock.of(9), arguments))
    assert asked == [["a", "b", "c"], ["c"]]
    assert [row["table"] for row in rows] == ["a", "b", "c"]
    assert rows[1]["error"] == "exit status -11"
    with pytest.raises(RuntimeError, match="-11"):  # Nothing is left, or no time.
        list(command._rows("jax", Clock.of(9), argparse.Namespace(parts=["b"])))
    with pytest.raises(RuntimeError, match="-11"):
        list(command._rows("jax", Clock.of(0), argparse.Namespace(parts=["b", "c"])))


def test_a_process_is_stopped_when_its_time_is_over():
    arguments = argparse.Namespace(quick=True, rounds=None)
    with pytest.raises(RuntimeError, match="stopped: its time was over"):
        list(command._process("jax", ["small"], Clock.of(0.1), arguments))


def test_parts_have_the_names_of_their_methods():
    assert tuple(parts.PARTS) == command.PARTS
    assert all(hasattr(parts.Part, name) for name in parts.PARTS)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((8, 2, 4), (8, 8)), ((2, 4, 8), (8, 8)), ((8, 32), (8, 32)), ((3, 3, 4, 8), (36, 8))],
)
def test_heads_are_one_matrix(shape, wanted):
    assert parts.two(shape) == wanted


def test_muon_gets_the_matrices_and_all_elements():
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    attention.build((None, 5, 8), (None, 5, 8))
    table = keras.layers.Embedding(5, 8)
    table.build()
    found = parts.as_matrices([*attention.trainable_variables, *table.trainable_variables])
    assert sorted(tuple(x.shape) for x in found) == [(8,)] * 4 + [(8, 8)] * 4 + [(40,)]


def test_noise_begins_again_where_it_ends(monkeypatch):
    monkeypatch.setattr(parts, "POOL", 7)
    parts._pool.cache_clear()
    try:
        assert parts.noise((2, 3)).shape == (2, 3)
        assert (parts.noise((4, 4))[1] == parts._pool()[[4, 5, 6, 0]]).all()
    finally:
        parts._pool.cache_clear()
