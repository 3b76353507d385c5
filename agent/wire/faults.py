"""What JSON cannot hold, made such that it can be found in one part of a text alone. Pure.

The decoder trips over a lone surrogate, over NaN and over Infinity wherever they are, also in a
reading that it only passes by, and so one bad reading would take its whole message along.
"""

from __future__ import annotations

import re

from agent.wire.base import Invalid

# One escape of a JSON string; the group is a surrogate that is not half of a pair.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def exposed(text: bytes) -> bytes:
    """`text` with each lone surrogate as the bytes it stands for, which are not UTF-8."""
    if b"\\u" not in text:
        return text
    return _ESCAPE.sub(
        lambda found: (
            chr(int(found[1], 16)).encode(errors="surrogatepass") if found[1] else found[0]
        ),
        text,
    )


def hidden(text: bytes) -> bytes:
    """What `exposed` and `quoted` were made from."""
    text = _QUOTED.sub(rb"\1", text)
    return text.decode(errors="surrogatepass").encode(errors="backslashreplace")


def check(text: bytes) -> None:
    """Refuse what came out of `exposed` or `quoted`, where a fault shows in it.

    Raises:
        Invalid: a lone surrogate, NaN or Infinity.
    """
    if found := _QUOTED.search(text):
        raise Invalid(f"{found[1].decode()} is no number")
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Invalid("lone surrogate") from None


# A string that nobody closes is one match to the end: to look again behind each of its quotes
# would take minutes.
# As the name of a field they are no JSON, whatever is made of them.
_NO_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|(-?Infinity|NaN)(?![ \t\r\n]*:)', re.DOTALL)
_QUOTED = re.compile(rb'"\xff(-?Infinity|NaN)"')


def quoted(text: bytes) -> bytes:
    """`text` with NaN and Infinity as strings that no UTF-8 can hold, so that JSON it is."""
    if b"NaN" not in text and b"Infinity" not in text:
        return text
    return _NO_NUMBER.sub(lambda found: b'"\xff' + found[1] + b'"' if found[1] else found[0], text)
