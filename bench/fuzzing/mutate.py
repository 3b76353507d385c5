"""What is done to good payloads: to their structure, their bytes, their compression, their size."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from typing import Any

LIMIT = 256 * 1024
_RAW = "\x01raw"
"""Marks a string that stands for JSON text which Python would not write."""
_TWICE = "\x01twice"
"""Marks a key that shall stand there a second time."""

_NUMBERS: tuple[Any, ...] = (
    *(0, -0.0, 1, -1, 0.5, 1.0, 60.0, 100, 101, 255, 256, 999, 1000, 3600, 3601, 65536),
    *(2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63)),
    *(10**40, 1e-320, 5e-324, 1e300, -1e300, 1.7976931348623157e308),
)
_RAWS = (
    *("1e999", "-1e999", "NaN", "Infinity", "-Infinity", "01", "1.", "-", "-0", "+1", "0x10"),
    *("1e5", "1E+2", "1.0", "0.1e1", "9" * 400, "9" * 5000, "tru", "nul", "'a'", "", "{", "]"),
    *('"\\ud800"', '"\\udc00x"', '"\\ud83d\\ude00"', '"\\ude00\\ud83d"', '"\\u0000"', '"\\q"'),
    *('"a\tb"', '"\\u12"', "[1,]", '{"a":1,}', '{"a":1,"a":2}', "/* */1", "{}", "[]", "null"),
)
_STRINGS = (
    *("", " ", "ok", "fail", "online", "a" * 4096, "a" * 4097, "é\u2028\U0001f600", "\x00"),
    *("{}", "{0}", "{name}", "%s", "'; DROP TABLE streams; --", "../../etc", "auto", "-", "::1"),
    *("127.0.0.1", "mqtt://127.0.0.1:1", "mqtt://[", "mqtt://h:99999", "http://x", "a/b/+/#"),
)
_TIMES = (
    *("2026-11-22T06:50:00Z", "2026-11-22T06:50:00.000z", "2026-11-22t06:50:00.000Z"),
    *("0000-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"),
    *("9999-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999Z", "2026-02-30T00:00:00.000Z"),
    *("2026-13-01T00:00:00.000Z", "2026-11-22T24:00:00.000Z", "2026-12-31T23:59:60.000Z"),
    *("2026-11-22T06:50:00.000+00:00", "2026-11-22 06:50:00.000Z", "2028-02-29T00:00:00.000Z"),
    *("2026-11-22T06:50:00.000", "2026-11-22T06:50:00.123456Z", "2026-11-22T06:50:00.Z"),
    *("2026-11-22T06:50:00.0000000000Z", "2026-11-22T06:60:00.000Z", "+2026-11-22T06:50:00.000Z"),
    *("٢٠٢٦-11-22T06:50:00.000Z", "2026-11-22T06:50:00.000Z\n", " 2026-11-22T06:50:00.000Z"),
)
_TOKENS = (
    *(b"null", b"-1", b"1e999", b"NaN", b"{}", b'"\\ud800"', b"\\u", b"[", b"]", b"{", b"}", b'"'),
    *(b",", b":", b"\\", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xef\xbb\xbf", b"\r\n"),
    *(b"x\x9c", b"\xf4\x90\x80\x80", b"\xe2\x80\xa8", b"\x0b", b"\xc2\xa0", b"0", b"e9", b"."),
)

Place = tuple[Any, Any]
"""A list or object, and an index or key in it."""


class Mutator:
    """Damages payloads by chance."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._bombs: list[bytes] = []
        self._before = b"{}"
        self._tree_ways: tuple[Callable[[Any], None], ...] = (
            *(self._drop, self._put_number, self._put_number, self._put_raw, self._put_raw),
            *(self._put_string, self._put_time, self._rename, self._twice, self._swap),
            *(self._put_null, self._wrap, self._nudge, self._nudge, self._respell, self._respell),
            *(self._unknown, self._deepen, self._repeat, self._upper, self._long),
        )
        self._byte_ways: tuple[Callable[[bytearray], None], ...] = (
            *(self._flip, self._insert, self._token, self._cut, self._delete, self._echo),
            self._splice,
        )

    def __call__(self, tree: Any) -> bytes:
        """`tree` as a payload, a little or badly damaged, or not at all."""
        rng = self._rng
        way = rng.random()
        if way < 0.15:
            return self._packed(_dumped(tree, ascii_only=True))
        if way < 0.75:
            for _ in range(rng.choices((1, 2, 3, 6), (70, 18, 8, 4))[0]):
                self.damage(tree)
        text = _dumped(tree, ascii_only=rng.random() < 0.5)
        if way >= 0.70:
            text = self._bytes(text)
        if way >= 0.995:
            text = self._sized(text)
        if len(text) < 20_000:
            self._before = text
        return self._packed(text)

    def _bytes(self, text: bytes) -> bytes:
        data = bytearray(text)
        for _ in range(self._rng.choices((1, 2, 4, 12), (70, 15, 10, 5))[0]):
            self._rng.choice(self._byte_ways)(data)
        return bytes(data)

    # Structure

    def damage(self, tree: Any) -> None:
        """One change somewhere in the tree."""
        if isinstance(tree, dict) and self._rng.random() < 0.7:  # what readings hold, mostly
            inner = tree.get("readings")
            if isinstance(inner, list) and inner:
                tree = self._rng.choice(inner)
        if isinstance(tree, dict | list) and tree:
            self._rng.choice(self._tree_ways)(tree)

    def _place(self, tree: Any) -> Place:
        """A place by chance, deep ones as likely as those near the root."""
        rng = self._rng
        here = tree
        while True:
            key = rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))
            inner = here[key]
            if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
                here = inner
            else:
                return here, key

    def _leaf(self, tree: Any, *kinds: type) -> Place | None:
        """A place that holds one of these kinds, if chance finds one."""
        for _ in range(8):
            here, key = self._place(tree)
            if type(here[key]) in kinds:
                return here, key
        return None

    def _put(self, tree: Any, value: Any) -> None:
        here, key = self._place(tree)
        here[key] = value

    def _drop(self, tree: Any) -> None:
        here, key = self._place(tree)
        del here[key]

    def _put_number(self, tree: Any) -> None:
        found = self._leaf(tree, int, float)
        value = self._rng.choice(_NUMBERS)
        if found:
            found[0][found[1]] = value
        else:
            self._put(tree, value)

    def _put_raw(self, tree: Any) -> None:
        self._put(tree, _RAW + self._rng.choice(_RAWS))

    def _put_string(self, tree: Any) -> None:
        found = self._leaf(tree, str)
        if found:
            found[0][found[1]] = self._rng.choice(_STRINGS)
        else:
            self._put(tree, self._rng.choice(_STRINGS))

    def _put_time(self, tree: Any) -> None:
        for _ in range(12):
            here, key = self._place(tree)
            if isinstance(here[key], str) and "T" in here[key]:
                here[key] = self._rng.choice(_TIMES)
                return

    def _put_null(self, tree: Any) -> None:
        self._put(tree, None)

    def _rename(self, tree: Any) -> None:
        here, key = self._place(tree)
        if isinstance(here, dict):
            other = self._rng.choice(
                (key.upper(), key + "_", key[:-1], "seq", "v", "\ud800", "", f"{key}\u0000")
            )
            here[other] = here.pop(key)

    def _twice(self, tree: Any) -> None:
        here, key = self._place(tree)
        if isinstance(here, dict):
            value = here[key] if self._rng.random() < 0.5 else self._rng.choice(_NUMBERS)
            here[_TWICE + key] = value
        else:
            here.append(here[key])

    def _swap(self, tree: Any) -> None:
        (here, key), (there, other) = self._place(tree), self._place(tree)
        try:
            json.dumps([here[key], there[other]])
            value = json.loads(json.dumps(there[other]))
        except (ValueError, KeyError, IndexError):
            return
        here[key] = value

    def _wrap(self, tree: Any) -> None:
        here, key = self._place(tree)
        here[key] = [here[key]] if self._rng.random() < 0.5 else {"x": here[key]}

    def _nudge(self, tree: Any) -> None:
        found = self._leaf(tree, int, float)
        if found:
            here, key = found
            rng = self._rng
            value = here[key]
            here[key] = rng.choice((value + 1, value - 1, -value, value * 2, value * 1000, 0, 1))

    def _respell(self, tree: Any) -> None:
        here, key = self._place(tree)
        value = here[key]
        if isinstance(value, bool):
            here[key] = self._rng.choice((not value, int(value), str(value)))
        elif isinstance(value, str):
            here[key] = self._rng.choice(
                (value + "x", value[:-1], value[1:], value + "\n", [value])
            )
        elif isinstance(value, int | float):
            here[key] = self._rng.choice((str(value), float(value), value > 0))
        elif isinstance(value, dict):
            here[key] = list(value)
        elif isinstance(value, list):
            here[key] = dict.fromkeys(map(str, range(len(value))), 1)

    def _unknown(self, tree: Any) -> None:
        here, _ = self._place(tree)
        if isinstance(here, dict):
            here["new"] = self._rng.choice(
                (1, None, {"a": [1]}, "x", _RAW + self._rng.choice(_RAWS), "\ud800")
            )

    def _deepen(self, tree: Any) -> None:
        depth = self._rng.choice((10, 100, 400, 990, 1000, 2000, 50_000))
        inner = "[" * depth + "]" * depth
        if self._rng.random() < 0.3:
            inner = '{"a":' * depth + "1" + "}" * depth
        here, key = self._place(tree)
        here["deep" if isinstance(here, dict) and self._rng.random() < 0.7 else key] = _RAW + inner

    def _repeat(self, tree: Any) -> None:
        found = self._leaf(tree, list)
        if found:
            here, key = found
            here[key] = here[key] * self._rng.choice((0, 2, 3, 50))

    def _upper(self, tree: Any) -> None:
        found = self._leaf(tree, str)
        if found:
            found[0][found[1]] = found[0][found[1]].upper()

    def _long(self, tree: Any) -> None:
        found = self._leaf(tree, str)
        if found:
            found[0][found[1]] = self._rng.choice("aé\u20ac") * self._rng.choice(
                (4095, 9000, 60_000)
            )

    # Bytes

    def _at(self, data: bytearray) -> int:
        return self._rng.randrange(len(data) + 1)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self._rng.randbytes(self._rng.randint(1, 6))

    def _token(self, data: bytearray) -> None:
        at = self._at(data)
        data[at : at + self._rng.randint(0, 4)] = self._rng.choice(_TOKENS)

    def _cut(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _delete(self, data: bytearray) -> None:
        at = self._at(data)
        del data[at : at + self._rng.randint(1, 30)]

    def _echo(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = data[at : at + self._rng.randint(1, 40)] * self._rng.randint(1, 3)

    def _splice(self, data: bytearray) -> None:
        before = self._before
        at = self._rng.randrange(len(before) + 1)
        data[self._at(data) :] = before[at:]

    # Size and compression

    def _sized(self, text: bytes) -> bytes:
        """Padded to about the greatest size."""
        wanted = LIMIT + self._rng.choice((-1, 0, 0, 1, 1000))
        if self._rng.random() < 0.5 and text.endswith(b"}"):
            fill = wanted - len(text) - 7
            return text[:-1] + b',"x":"' + b"y" * fill + b'"}'
        return text + b" " * (wanted - len(text))

    def _packed(self, text: bytes) -> bytes:
        rng = self._rng
        if rng.random() < 0.5:
            return text
        way = rng.random()
        if way < 0.75:
            return zlib.compress(text, 1)
        packed = zlib.compress(text, rng.choice((0, 6, 9)))
        if way < 0.79:
            return packed[: rng.randrange(len(packed))]
        if way < 0.83:
            return packed + rng.choice((b"\x00", b"more", packed))
        if way < 0.86:
            other = zlib.compressobj(6, zlib.DEFLATED, 15, 8, 0, text[:200] or b"x")
            return other.compress(text) + other.flush()
        if way < 0.88:
            return zlib.compress(packed)
        if way < 0.91:
            return self._bytes(packed)
        if way < 0.93:
            smaller = zlib.compressobj(6, zlib.DEFLATED, rng.choice((9, 12, 14, -15, 31)))
            return smaller.compress(text) + smaller.flush()
        if way < 0.96:
            parts = zlib.compressobj(6)
            first = parts.compress(text[:50]) + parts.flush(zlib.Z_FULL_FLUSH)
            return (
                first + parts.compress(text[50:]) + parts.flush(zlib.Z_SYNC_FLUSH) + parts.flush()
            )
        if way < 0.97:
            return self._bomb()
        return packed

    def _bomb(self) -> bytes:
        if not self._bombs:
            sizes = (LIMIT, LIMIT + 1, 1 << 24, 1 << 26)
            self._bombs = [zlib.compress(b" " * size, 9) for size in sizes]
            empty = zlib.compressobj(6)
            flushes = b"".join(empty.flush(zlib.Z_FULL_FLUSH) for _ in range(40_000))
            self._bombs.append(b"\x78\x9c" + flushes)
        return self._rng.choice(self._bombs)


def _dumped(tree: Any, *, ascii_only: bool) -> bytes:
    """JSON in UTF-8; what Python would not write is put in as it is."""
    text = json.dumps(tree, ensure_ascii=ascii_only, separators=(",", ":"))
    if "\\u0001" in text:
        text = text.replace('"\\u0001twice', '"')
        while '"\\u0001raw' in text:
            before, _, rest = text.partition('"\\u0001raw')
            inner, end = json.decoder.scanstring(rest, 0, False)  # type: ignore[attr-defined]  # it is there
            text = before + inner + rest[end:]
    return text.encode("utf-8", "surrogatepass")
