"""The search for link addresses: in every notation, also within what is compressed."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator


def spellings(hardware: str) -> list[bytes]:
    """Every way to write a whole link address as text."""
    raw = bytes.fromhex(hardware.replace(":", ""))
    found = {str(int.from_bytes(raw, "big")), base64.b64encode(raw).decode()}
    for order in (raw, raw[::-1]):
        plain = {order.hex(), *(order.hex(separator) for separator in ":-. "), order.hex(".", 2)}
        plain |= {":".join(f"{byte:x}" for byte in order)}
        found |= plain | {text.upper() for text in plain}
    return sorted(text.encode() for text in found)


def notations(hardware: str) -> list[bytes]:
    """The same, the bytes themselves, and its last three bytes, which name the device."""
    raw = bytes.fromhex(hardware.replace(":", ""))
    tail = raw[3:]
    texts = [tail.hex(), *(tail.hex(separator) for separator in ":-.")]
    tails = [tail, *(text.encode() for text in (*texts, *map(str.upper, texts)))]
    return [*spellings(hardware), raw, raw[::-1], *tails]


def unpacked(data: bytes) -> Iterator[bytes]:
    """`data`, and all that can be decompressed from anywhere in it."""
    yield data
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
        try:
            yield zlib.decompressobj().decompress(data[match.start() :])
        except zlib.error:
            continue


def held(data: bytes, searched: list[bytes]) -> list[bytes]:
    """Which of `searched` stand in `data`, compressed or not."""
    return [one for part in unpacked(data) for one in searched if one in part]
