"""Objects that lie in rows or in JSON members of shards, as a COCO JSON that the reader of COCO takes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from densevision.datasets.formats.image_folder import CLASS_KEYS
from densevision.errors import DataError, UsageError

__all__ = ["OBJECTS", "ObjectLabels", "parse_json_objects"]

OBJECTS = "objects"
"""In `data.columns`: a column or member of objects."""
BOX_FORMS = ("xywh", "xyxy")
"""Forms of a box: x, y, width, height as in COCO; or two corners."""
_COPIED = ("area", "segmentation", "iscrowd")


def parse_json_objects(content: bytes, shard: str, member: str) -> tuple[Any, dict[str, Any]]:
    """Objects and other fields of the JSON of a sample.

    Raises:
        DataError: It is no JSON object or list.
    """
    try:
        values = json.loads(content)
    except ValueError:
        raise DataError("not JSON", file=shard, field=member, value=content[:80]) from None
    if isinstance(values, dict):
        return values.get(OBJECTS) or values.get("annotations") or [], values
    if isinstance(values, list):
        return values, {}
    raise DataError("neither an object nor a list", file=shard, field=member, value=content[:80])


class ObjectLabels:
    """The objects of a split.

    Args:
        target: "objects", or "objects:xyxy".
        names: Names of the numbers of classes, if the shards state them.

    Raises:
        UsageError: There is no such form of a box.
    """

    def __init__(self, target: str = OBJECTS, names: Sequence[str] = ()):
        self.form = target.partition(":")[2] or BOX_FORMS[0]
        if self.form not in BOX_FORMS:
            hint = f"Write {OBJECTS}, or {OBJECTS}:{BOX_FORMS[1]}."
            raise UsageError("there is no such form of a box", field="data.columns", value=target, hint=hint)
        self.names = tuple(names)
        self._samples: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = []
        self._images: dict[str, str] = {}

    def add(self, key: str, objects: Any, fields: Mapping[str, Any]) -> None:
        """Adds the objects of a sample.

        Args:
            key: The sample.
            objects: A list of objects, or an object of lists: `bbox`, a class, and perhaps `segmentation`, `area`,
                `iscrowd`.
            fields: May state `width` and `height` of the image.

        Raises:
            DataError: The objects have another form.
        """
        sides = {name: fields[name] for name in ("width", "height") if isinstance(fields.get(name), int)}
        try:
            self._samples.append((key, [*self._convert(objects)], sides))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            hint = f"Expected lists `bbox` and one of {', '.join(CLASS_KEYS)}, of the same length."
            raise DataError(f"not objects: {error!r}", field=OBJECTS, value=key, hint=hint) from None

    def name_images(self, images: Mapping[str, str], split: str) -> None:
        """States the files of the images by the keys of their samples.

        Raises:
            UsageError: An image lies outside of the folder of the split, where the JSON is.
        """
        prefix = f"{split}/" if split else ""
        for name in images.values():
            if not name.startswith(prefix):
                hint = "With objects, begin the path of the image with {split}/."
                raise UsageError("not in the folder of the split", field="data.columns", value=name, hint=hint)
        self._images.update({key: name.removeprefix(prefix) for key, name in images.items()})

    def write(self) -> bytes:
        """The COCO JSON."""
        words = sorted({each["class"] for _, objects, _ in self._samples for each in objects})
        if all(isinstance(word, int) for word in words):
            names = self.names or tuple(f"class_{number}" for number in range(max(words, default=-1) + 1))
            numbers: dict[Any, int] = {number: number for number in range(len(names))}
        else:
            words = sorted(map(str, words))
            names, numbers = tuple(words), {word: number for number, word in enumerate(words, 1)}
        ids = [*numbers.values()]
        categories = [{"id": number, "name": name} for number, name in zip(ids, names)]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, (key, objects, sides) in enumerate(self._samples, 1):
            images.append({"id": number, "file_name": self._images.get(key, key), **sides})
            for each in objects:
                word = each.pop("class")
                category = numbers.get(word if isinstance(word, int) and word in numbers else str(word), word)
                entry = {"id": len(annotations) + 1, "image_id": number, "category_id": category, **each}
                annotations.append(entry)
        content = {"categories": categories, "images": images, "annotations": annotations}
        return json.dumps(content, ensure_ascii=False).encode()

    def _convert(self, objects: Any) -> Iterator[dict[str, Any]]:
        if isinstance(objects, Mapping):
            columns = {name: values for name, values in objects.items() if isinstance(values, (list, tuple))}
            lengths = {len(columns[name]) for name in columns if name in ("bbox", *CLASS_KEYS)}
            if len(lengths) > 1:
                raise ValueError("boxes and classes differ in number")
            objects = [dict(zip(columns, values)) for values in zip(*columns.values())]
        for each in objects or ():
            x, y, right, bottom = map(float, each["bbox"])
            width, height = (right - x, bottom - y) if self.form == "xyxy" else (right, bottom)
            label = next(each[name] for name in (*CLASS_KEYS, "category_id") if each.get(name) is not None)
            entry = {"class": label, "bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
            entry.update({name: each[name] for name in _COPIED if each.get(name) is not None})
            entry["iscrowd"] = int(entry["iscrowd"])
            yield entry
