"""A growing log is read once, from either end; a run's status from its end is that of reading everything."""

import json
import multiprocessing
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.training.event_tail import EventTail, first_event, last_lines, newest_first
from engine.training.run_folder import RunFolder, Status

KINDS = st.sampled_from(["run", "step", "step", "step", "epoch", "evaluation", "probe", "end", "stopped", "failed"])


def written(kinds):
    lines = []
    for number, kind in enumerate(kinds):
        event = {"event": kind, "epoch": number // 3, "at": float(number)}
        event |= {"epochs": 9} if kind == "run" else {"reason": f"because {number}"} if kind == "stopped" else {}
        lines.append(json.dumps(event) + "\n")
    return lines


def slow_status(events):
    """From the first event to the last."""
    epoch = epochs = 0
    state, reason, last = "new", "", None
    for event in events:
        kind = event["event"]
        if kind == "run":
            epoch, epochs, state, reason = event["epoch"], event["epochs"], "interrupted", ""
        elif kind == "epoch":
            epoch, last = event["epoch"], event
        elif kind in ("end", "stopped", "failed"):
            state, reason = {"end": "finished"}.get(kind, kind), event.get("reason", "")
    return Status(state, epoch, epochs, last, reason)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(st.sampled_from(["step", "epoch", "evaluation"]), max_size=9),
                          st.sampled_from(["", "end", "stopped", "failed"])), max_size=4))  # fmt: skip
def test_status_from_the_end_is_that_of_reading_everything(tmp_path_factory, parts):
    run = RunFolder(tmp_path_factory.mktemp("run"))
    kinds = [kind for inner, last in parts for kind in ["run", *inner, *([last] if last else [])]]
    run.events_file.write_text("".join(written(kinds)))
    assert run.status() == slow_status(list(run.events()))


@settings(max_examples=60, deadline=None)
@given(st.lists(KINDS, max_size=30), st.integers(5, 200))
def test_newest_first_is_the_log_reversed(tmp_path_factory, kinds, block):
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    path.write_text("".join(written(kinds)))
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(newest_first(path, block=block)) == events[::-1]
    wanted = frozenset({"run", "epoch"})
    some = [e for i, e in enumerate(events[::-1]) if i == 0 or e["event"] in wanted]
    assert list(newest_first(path, wanted, block=block)) == some
    assert first_event(path) == (events[0] if events else None)


@settings(max_examples=60, deadline=None)
@given(st.lists(KINDS, min_size=1, max_size=20), st.lists(st.integers(1, 300), min_size=1, max_size=40), st.data())
def test_a_tail_gives_every_event_once_however_it_is_written(tmp_path_factory, kinds, cuts, data):
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    whole = "".join(written(kinds)).encode()
    tail, found, at = EventTail(path), [], 0
    assert tail.read() == ([], False, False)
    for cut in [*cuts, len(whole)]:
        with path.open("ab") as file:
            file.write(whole[at : at + cut])
        at += cut
        more = True
        while more:
            events, more, restarted = tail.read(data.draw(st.sampled_from([1, 40, 10_000])))
            assert not restarted
            found += events
    assert found == [json.loads(line) for line in whole.splitlines()]


def test_a_replaced_log_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    path.write_text("".join(written(["run", "step", "epoch"])))
    assert len(tail.read()[0]) == 3
    path.write_text("".join(written(["run"])))
    events, _, restarted = tail.read()
    assert restarted and [e["event"] for e in events] == ["run"]
    path.write_text('{"event": "run"}\nnot json\n[1]\n{"event": "step"}\n{"event": "ep')
    tail = EventTail(path)
    assert [e["event"] for e in tail.read()[0]] == ["run", "step"]
    path.unlink()
    assert tail.read() == ([], False, True)


def test_last_lines(tmp_path):
    path = tmp_path / "output.log"
    assert last_lines(path) == ""
    path.write_bytes(b"one\n\xfftwo\rthree  \n\n" + b"x" * 100 + b"\nlast")
    assert last_lines(path, 2) == "x" * 100 + "\nlast"
    assert last_lines(path, 4).splitlines()[0].endswith("two")
    assert last_lines(path, 9, limit=20) == "x" * 15 + "\nlast"


def _ask(path, until):
    while time.monotonic() < until:
        RunFolder(path).running()


def test_asking_whether_a_run_is_running_does_not_keep_it_from_starting(tmp_path):
    run = RunFolder(tmp_path)
    with run.locked():
        pass
    asking = multiprocessing.get_context("spawn").Process(target=_ask, args=(tmp_path, time.monotonic() + 1.0))
    asking.start()
    try:
        while asking.is_alive():
            with run.locked():
                assert run.holder() is not None
    finally:
        asking.join()
