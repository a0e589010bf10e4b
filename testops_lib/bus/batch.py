"""Offsets to batches: pure arithmetic on slices of a topic."""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Mapping

from testops_lib.errors import SettingsError
from testops_lib.model import Batch

_BATCH = re.compile(
    r"(?P<topic>[A-Za-z0-9._-]{1,249}):(?P<partition>\d{1,9}):(?P<first>\d{1,18})-(?P<end>\d{1,18})", re.ASCII
)
_POSITION = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)


def parse(text: str) -> Batch:
    """The batch that `str(batch)` wrote: `testops.cases:0:100-180`.

    Raises:
        SettingsError: the text has another form, or its end precedes its first offset.
    """
    match = _BATCH.fullmatch(text.strip())
    if match is None or int(match["end"]) < int(match["first"]):
        raise SettingsError(
            f"{text!r} is no batch",
            where="batch",
            next_step="write TOPIC:PARTITION:FIRST-END, as in testops.cases:0:100-180",
        )
    return Batch(
        topic=match["topic"], partition=int(match["partition"]), first=int(match["first"]), end=int(match["end"])
    )


def positions_text(positions: Mapping[int, int]) -> str:
    """Offsets by partition as one word: `0:120,1:98`."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(positions.items()))


def parse_positions(text: str) -> dict[int, int]:
    """The offsets by partition that `positions_text` wrote; none in an empty text.

    Raises:
        SettingsError: the text has another form.
    """
    positions: dict[int, int] = {}
    for word in filter(None, text.strip().split(",")):
        match = _POSITION.fullmatch(word)
        if match is None:
            raise SettingsError(
                f"{text!r} are no positions", where="positions", next_step="write PARTITION:OFFSET,…, as in 0:120,1:98"
            )
        positions[int(match[1])] = int(match[2])
    return positions


class Placed:
    """Where records were delivered, in a few bytes for each of them."""

    def __init__(self) -> None:
        self._offsets: dict[int, array[int]] = defaultdict(lambda: array("Q"))
        self._sizes: dict[int, array[int]] = defaultdict(lambda: array("I"))

    def add(self, partition: int, offset: int, size: int) -> None:
        """One delivery report; `size` in bytes."""
        self._offsets[partition].append(offset)
        self._sizes[partition].append(size)

    def batches(self, topic: str, *, max_records: int, max_bytes: int) -> list[Batch]:
        """Slices that hold every delivered record once, by partition and then by offset.

        Args:
            topic: where the records are.
            max_records: delivered records in one slice.
            max_bytes: their bytes together; a single larger record gets a slice of its own.

        A slice may span records of others (a reader skips those), yet never `max_records` of them in a row.

        Raises:
            ValueError: a limit is below 1.
        """
        if max_records < 1 or max_bytes < 1:
            raise ValueError(f"limits must be at least 1, not {max_records} records and {max_bytes} bytes")
        batches: list[Batch] = []
        for partition, offsets in sorted(self._offsets.items()):
            sizes = self._sizes[partition]
            ascending = sorted(range(len(offsets)), key=offsets.__getitem__)
            first = last = offsets[ascending[0]]
            count = total = 0
            for index in ascending:
                offset, size = offsets[index], sizes[index]
                full = count == max_records or total + size > max_bytes or offset - last > max_records
                if count and full:
                    batches.append(Batch(topic=topic, partition=partition, first=first, end=last + 1))
                    first, count, total = offset, 0, 0
                last, count, total = offset, count + 1, total + size
            batches.append(Batch(topic=topic, partition=partition, first=first, end=last + 1))
        return batches
