"""Escaping of text from files, labels and model cards, so that it cannot control a terminal or a browser."""

from __future__ import annotations

import logging
import re

__all__ = ["escape_control", "escape_json", "escape_record"]

_UNSAFE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1: escape sequences, backspace, carriage return, bell
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"  # invisible, or changes the order of what follows
    "\u2060-\u206f\ufeff\ufff9-\ufffb"  # the same
    "\ud800-\udfff"  # bytes of file names that are not UTF-8: they cannot be encoded
    "\U000e0000-\U000e007f"  # tags, invisible as well
    "]"
)
_LINE_BREAKS = re.compile("[\t\n]")


def escape_control(text: object, keep_breaks: bool = True) -> str:
    r"""Replaces control characters by Python's escape sequences, such as `\x1b` for ESC.

    This covers C0 and C1 (hence all ANSI sequences), characters that reorder or hide text (bidirectional controls,
    zero-width space, tags), line separators, and lone surrogates. Joiners (U+200C, U+200D) are kept: scripts and emoji
    need them.

    Args:
        text: The text.
        keep_breaks: Keep tabs and line feeds; False for text that must stay on one line, such as a file name.

    >>> escape_control("a\x1b[31mb.png")
    'a\\x1b[31mb.png'
    >>> escape_control("a\nb", keep_breaks=False)
    'a\\nb'
    """
    escaped = _UNSAFE.sub(_escape_match, str(text))
    return escaped if keep_breaks else _LINE_BREAKS.sub(_escape_match, escaped)


def escape_json(text: str) -> str:
    r"""Escapes JSON text without changing its value, such as `\u001b` for ESC.

    >>> escape_json('"\x9b1m"')
    '"\\u009b1m"'
    """
    return _UNSAFE.sub(lambda match: _encode_utf16(match[0]), text)


def escape_record(record: logging.LogRecord) -> bool:
    """Logging filter that escapes the message of a record and accepts it."""
    record.msg, record.args = escape_control(record.getMessage()), ()
    return True


def _escape_match(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _encode_utf16(character: str) -> str:
    """A character as JSON escapes of one or two UTF-16 code units."""
    data = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[start : start + 2].hex()}" for start in range(0, len(data), 2))
