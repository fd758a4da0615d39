"""The PyPI library eventsourcing with its Postgres recorder, on the same server with the same durability."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from urllib.parse import parse_qs, unquote, urlsplit

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

SCHEMA = "rival"
STATE = {"state": "active", "reason": "a benchmark says so, at some length, as reasons do"}


class Rival:
    """Made with the library's defaults; each thread is one submitter with a connection of its own."""

    def __init__(self, url: str, threads: int = 32) -> None:
        parts = urlsplit(url)
        folder = parse_qs(parts.query)["host"][0]
        self._datastore = PostgresDatastore(
            dbname=parts.path.lstrip("/"),
            host=folder,
            port=5432,
            user=unquote(parts.username or ""),
            password="",
            pool_size=threads,
            schema=SCHEMA,
        )
        self._recorder = PostgresApplicationRecorder(self._datastore, events_table_name="stored_events")
        self._recorder.create_table()

    def rate(self, threads: int, seconds: float) -> float:
        """Events per second, one event per call, each thread waiting for its own answer."""
        deadline, counts = time.monotonic() + seconds, [0] * threads

        def submit(number: int) -> None:
            originator = uuid.uuid4()
            for version in itertools.count(1):
                if time.monotonic() >= deadline:
                    return
                state = json.dumps({"node_id": f"node-{number}", **STATE}).encode()
                self._recorder.insert_events([StoredEvent(originator, version, "node.state_changed", state)])
                counts[number] = version

        started = time.monotonic()
        running = [threading.Thread(target=submit, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return sum(counts) / (time.monotonic() - started)

    def close(self) -> None:
        self._datastore.close()
