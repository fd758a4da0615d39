"""What stops the whole process stays short, however much is in memory. Each in a process of its own: it is for ever."""

from __future__ import annotations

import subprocess
import sys
import textwrap

PREPARED = """
import gc, time, threading
from kit import pauses
pauses.keep_short()
gc.disable()  # only those that are asked for

def many(count):
    return [{"key": [number]} for number in range(count)]

def pause_s():
    started = time.thread_time()
    gc.collect()
    return time.thread_time() - started
"""


def _run(program: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PREPARED + textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr


def test_what_is_there_to_stay_is_looked_at_once() -> None:
    _run("""
    kept = many(400_000)
    first_s = pause_s()
    assert first_s > pauses.PAUSE_S, first_s
    assert pause_s() < first_s / 10
    more = many(4_000)
    assert pause_s() < first_s / 10
    """)


def test_what_is_put_aside_is_freed_when_nobody_refers_to_it() -> None:
    _run("""
    import weakref
    class Row: pass
    row, kept = Row(), many(400_000)
    ended = weakref.ref(row)
    pause_s()
    assert gc.get_freeze_count() > 400_000
    del row
    assert ended() is None
    """)


def test_a_cycle_that_was_put_aside_is_found_in_the_end() -> None:
    _run("""
    import weakref
    class Row: pass
    row, kept = Row(), many(400_000)
    row.itself, ended = row, weakref.ref(row)
    pauses.LOOK_AGAIN, pauses.PAUSE_S = 2, 0  # each collection counts, however fast the machine
    pause_s()
    del row
    assert ended() is not None
    for _ in range(4):
        pause_s()
    assert ended() is None
    """)


def test_a_thread_that_computes_gives_its_turn_away_soon() -> None:
    """Each sleep gives the interpreter away, and has to wait for a turn after it."""
    _run("""
    stop = threading.Event()
    def compute():
        while not stop.is_set():
            sum(range(1000))
    threads = [threading.Thread(target=compute) for _ in range(1)]
    for thread in threads: thread.start()
    started = time.monotonic()
    for _ in range(100):
        time.sleep(0)
    seconds = time.monotonic() - started
    stop.set()
    for thread in threads: thread.join()
    assert seconds < 0.25, seconds
    """)
