"""The bounds of the image driver, with their units. An image that exceeds one is refused, never truncated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    packed_bytes_max: int = 10 << 30  # sum of the compressed layers
    unpacked_bytes_max: int = 50 << 30  # of the files, and so of the squashfs
    cache_bytes_max: int = 30 << 30  # what `remove_unused` leaves on the disk, in-use images apart
    layers_max: int = 128
    manifest_bytes_max: int = 4 << 20  # registries themselves take no more
    manifest_timeout_s: float = 60.0
    fetch_timeout_s: float = 1800.0
    unpack_timeout_s: float = 900.0
    pack_timeout_s: float = 900.0
    builds_at_once_max: int = 2  # more would starve the guests of disk and CPU

    def __post_init__(self) -> None:
        assert self.packed_bytes_max <= self.unpacked_bytes_max
        assert self.manifest_bytes_max < self.packed_bytes_max
