"""Changes of valid files: damaged bytes, hostile values in structured text, and checksums that fit again."""

from __future__ import annotations

import copy
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutate = Callable[[bytes, random.Random], bytes]

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 255, 65536, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e300,
    float("nan"), float("inf"), -float("inf"), "", "a", "1", "nan", "../../a.png", "/etc/hostname", "\0", "\x1b[31m",
    "\u202e", "\ud800", "x" * 5000, [], [[]], [None], ["a"], [1, 2, 3, 4], [1e9] * 4, [-1] * 8, {}, {"a": None},
    {"size": [4, 4], "counts": "x"}, {"size": [2**31, 2**31], "counts": [2**62]},
)  # fmt: skip
"""What replaces a value of JSON."""
WORDS = (
    b"", b"0", b"-1", b"1", b"99999999999999999999", b"1" * 400, b"1e400", b"1e-400", b"-0", b"nan", b"inf", b"-inf",
    b"0x10", b"1_000", b"\xd9\xa3", b"\xff\xfe", b"\0", b"null", b"true", b"~", b"[]", b"{}", b"[", b"]", b"{", b"}",
    b"<", b">", b"&lt;", b"&x;", b"!!python/name:os.system", b"&a", b"*a", b"|", b"\x1b[2J", b"../..", b"/etc", b"#",
    b"'", b'"', b"\r", b"\n", b"\t", b":", b",", b" ",
)  # fmt: skip
"""What replaces a word of text."""
_WORD = re.compile(rb"[-+.\w]+|[^\s\w]")


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Truncates, removes bytes, or replaces bytes and bits, half of the time near the start."""
    changed, kind = bytearray(data), rng.randrange(5)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    if kind == 1:
        start = rng.randrange(len(data))
        del changed[start : start + rng.randrange(1, 16)]
        return bytes(changed)
    end = len(data) if rng.random() < 0.5 else min(len(data), 64)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(end)
        changed[at] = rng.choice((0, 255, 127, 128, rng.randrange(256), changed[at] ^ (1 << rng.randrange(8))))
    return bytes(changed)


def mutate_png(data: bytes, rng: random.Random) -> bytes:
    """Mutates bytes, mostly with correct checksums, so that the mutation is not refused because of them."""
    changed = mutate_bytes(data, rng)
    return fix_checksums(changed) if rng.random() < 0.7 else changed


def fix_checksums(data: bytes) -> bytes:
    """A PNG with correct checksums."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        (count,) = struct.unpack(">I", data[at : at + 4])
        if at + 12 + count > len(data):
            break
        body = data[at + 4 : at + 8 + count]
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + count
    return b"".join(parts) + data[at:]


def mutate_text(data: bytes, rng: random.Random) -> bytes:
    """Replaces, doubles, swaps or removes words and lines; a quarter of the time damages bytes."""
    if rng.random() < 0.25:
        return mutate_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        words = list(_WORD.finditer(data))
        if not words:
            return data
        word = rng.choice(words)
        start, end, kind = *word.span(), rng.randrange(6)
        if kind < 3:
            data = data[:start] + rng.choice(WORDS) + data[end:]
        elif kind == 3:
            other = rng.choice(words)[0]
            data = data[:start] + other + data[end:]
        else:
            lines = data.split(b"\n")
            line = rng.randrange(len(lines))
            if kind == 4:
                del lines[line]
            else:
                lines[line:line] = [rng.choice(lines)] * rng.choice((1, 2, 50))
            data = b"\n".join(lines)
    return data


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Replaces, removes or doubles values of a JSON; a fifth of the time damages bytes or words."""
    chance = rng.random()
    if chance < 0.1:
        return mutate_bytes(data, rng)
    if chance < 0.2:
        return mutate_text(data, rng)
    if chance < 0.22:
        depth = rng.choice((100, 2000, 100_000))
        place = rng.randrange(len(data))
        return data[:place] + rng.choice((b"[", b'{"a":')) * depth + data[place:]
    root = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        root = _change_value(root, rng)
    return json.dumps(root).encode("utf-8", "surrogatepass")


def _change_value(root: Any, rng: random.Random) -> Any:
    places = list(_list_places(root))
    if not places:
        return copy.deepcopy(rng.choice(VALUES))
    container, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    elif kind == 2:
        other, other_key = rng.choice(places)
        if isinstance(other, dict) or other_key < len(other):
            container[key] = json.loads(json.dumps(other[other_key]))
    elif kind == 3 and type(container[key]) in (int, float):
        number = max(-1e300, min(container[key], 1e300))  # a larger integer is no float
        container[key] = number * rng.choice((-1, 0.5, 1e9, 1e-9)) + rng.choice((0, 1, 0.25))
    else:
        container[key] = copy.deepcopy(rng.choice(VALUES))
    return root


def _list_places(value: Any) -> Any:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _list_places(value[key])


def mutate_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Changes the card, the header around it, or bytes."""
    chance, length = rng.random(), int.from_bytes(data[:8], "little")
    if chance < 0.2:
        return mutate_bytes(data, rng)
    header = json.loads(data[8 : 8 + length])
    if chance < 0.8:
        card = header["__metadata__"]["densevision"].encode()
        header["__metadata__"]["densevision"] = mutate_json(card, rng).decode("utf-8", "replace")
        text = json.dumps(header).encode()
    else:
        text = mutate_json(json.dumps(header).encode(), rng)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def mutate_zip(data: bytes, rng: random.Random) -> bytes:
    """Changes the content of one member of an archive, whose checksums fit, or bytes."""
    if rng.random() < 0.25:
        return mutate_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice([name for name, content in members.items() if content])
    if name.endswith(".json") or members[name][:1] == b"{":
        members[name] = mutate_json(members[name], rng)
    elif name.endswith(".npy"):
        members[name] = mutate_npy(members[name], rng)
    else:
        members[name] = mutate_bytes(members[name], rng)
    if rng.random() < 0.05:
        del members[name]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return stream.getvalue()


def mutate_npy(data: bytes, rng: random.Random) -> bytes:
    """Changes the text of the header, whose length stays correct, or bytes."""
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    (length,) = struct.unpack("<H", data[8:10])
    text = mutate_text(data[10 : 10 + length], rng)[:60_000]
    if rng.random() < 0.5:
        text = re.sub(rb"\d+", lambda match: rng.choice((match[0], b"0", b"-1", b"100000", b"9" * 12)), text, count=2)
    return data[:8] + struct.pack("<H", len(text)) + text + data[10 + length :]
