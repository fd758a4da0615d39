"""Benchmarks: where performance claims live. `python -m tests.bench NAME` runs one, `--all` all and writes the table.

A benchmark is a module here with `TITLE` and `async def run(progress) -> dict`: it calls `progress("text")` as it goes
and returns one flat JSON object; what it compares is measured side by side in that one run.
"""
