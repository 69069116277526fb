"""Publishing a trained model: weights, a model card and an example image, in a folder or on the Hugging Face Hub."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import yaml

from densevision.errors import UsageError, WeightsError
from densevision.io.atomic_write import write_text
from densevision.io.hub import WEIGHTS_FILE, find_hub_address, is_hub_address, parse_hub_address, upload_model
from densevision.io.image import write_image
from densevision.io.weights import Card, load_card, save_weights
from densevision.version import __version__

__all__ = ["push"]

EXAMPLE_FILE = "example.jpg"
PIPELINE_TAGS = {
    "detection": "object-detection",
    "semantic": "image-segmentation",
    "instance": "image-segmentation",
    "depth": "depth-estimation",
    "superres": "image-to-image",
    "translation": "image-to-image",
}
"""Task -> the Hub's name of it, where it has one."""
MAX_CLASSES = 100
"""Class names that the model card lists."""

log = logging.getLogger(__name__)


def push(
    run: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    image: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    license: str | None = None,
    private: bool = False,
) -> str:
    """Publishes the best weights of a run on the Hugging Face Hub, or writes the same files into a local folder.

    The files are `model.safetensors`, `card.json` (what the weights file says of itself), `README.md` (a model card
    with the metrics and their protocol) and `example.jpg`. Local paths are reduced to the names of their last part. The
    example shows a prediction on the given image, or on a procedural scene where the model was trained on such scenes;
    images of your dataset are published only where you name them.

    Args:
        run: A run folder, or a weights file.
        target: `hf://owner/name[@branch]`, or a folder.
        image: The image of the example; flow needs two.
        license: License of the weights as the Hub writes it, such as "apache-2.0"; what their card says by default.
        private: Make a new repository private.

    Returns:
        The address with the commit, `hf://owner/name@commit`, or the folder: what `weights` takes.

    Raises:
        WeightsError: There are no weights, or the upload fails.
        UsageError: An option has no effect.
        DataError: The image cannot be read.
    """
    weights = find_weights(Path(run))
    card = load_card(weights)
    card = _hide_paths(card.replace(license=license) if license else card)
    if is_hub_address(target):
        address = parse_hub_address(os.fspath(target))
        with tempfile.TemporaryDirectory() as directory:
            _write_files(Path(directory), weights, card, address.repository, image)
            return str(upload_model(Path(directory), address, is_private=private))
    if private:
        raise UsageError("has no effect on a folder", field="private", hint="Leave it out.")
    folder = Path(target)
    _write_files(folder, weights, card, folder.resolve().name, image)
    return str(folder)


def find_weights(run: Path) -> Path:
    """The weights of a run folder, or the weights file itself.

    Raises:
        WeightsError: There are none.
    """
    if run.is_file():
        return run
    for name in ("best.safetensors", WEIGHTS_FILE):
        if (run / name).is_file():
            return run / name
    hint = "Give a run folder with best.safetensors, or a weights file."
    raise WeightsError("no weights to publish", file=run, hint=hint)


def _write_files(folder: Path, weights: Path, card: Card, name: str, image: Any) -> None:
    from safetensors.torch import load_file

    folder.mkdir(parents=True, exist_ok=True)
    example = _draw_example(weights, card, image)
    save_weights(folder / WEIGHTS_FILE, load_file(weights), card)
    write_text(folder / "card.json", card.to_json() + "\n")
    if example is None:
        log.warning("no example image: give image= (--image) to show a prediction on the model's page")
        (folder / EXAMPLE_FILE).unlink(missing_ok=True)
    else:
        write_image(folder / EXAMPLE_FILE, example)
    write_text(folder / "README.md", write_model_card(card, name, has_example=example is not None))


def _draw_example(weights: Path, card: Card, image: Any) -> Any:
    """A drawn prediction, (H, W, 3) uint8, or None where there is no image that may be published."""
    from densevision.inference.predict import predict_samples
    from densevision.inference.predictor import load_torch

    data = str(card.config.get("data", {}).get("path"))
    if image is None and not data.startswith("scenes"):
        return None
    predictor = load_torch(weights)
    if image is not None:
        source = list(image) if isinstance(image, (list, tuple)) else image
        result = predictor.predict(source)
        if isinstance(result, list):
            if len(result) != 1:
                raise UsageError(
                    "gives more than one prediction", field="image", value=str(image), hint="Give one image."
                )
            result = result[0]
        return result.draw()
    predictor.task.config = predictor.task.config.replace(data__path="scenes:5:7", data__val=None)
    sample = predictor.task.open_dataset("val")[0]
    ((_, result),) = predict_samples(predictor, [sample], predictor.options)
    return result.draw(next(iter(sample.images.values())))


def write_model_card(card: Card, name: str, *, has_example: bool) -> str:
    """The README.md of a published model: front matter for the Hub, use, metrics, their protocol, training, license.

    Args:
        card: Card of the weights.
        name: "owner/name" on the Hub, or the name of a folder.
        has_example: Whether example.jpg stands beside it.
    """
    title = name.rpartition("/")[2]
    arch = card.config.get("arch", card.task)
    weights = f"hf://{name}" if "/" in name else name
    parts = [
        f"---\n{yaml.safe_dump(_make_front_matter(card, title), sort_keys=False, allow_unicode=True)}---\n",
        f"# {title}\n",
        f"A model for {card.task} (`{arch}`) of [densevision](https://github.com/densevision/densevision).\n",
        f"![A prediction of this model]({EXAMPLE_FILE})\n" if has_example else "",
        "## Use\n",
        f"```\npip install 'densevision[hub]'\ndensevision {card.task} predict IMAGE --weights {weights}\n```\n",
        f'```python\nimport densevision\n\nresult = densevision.predict("image.jpg", weights="{weights}")\n```\n',
        _describe_metrics(card),
        _describe_training(card),
        f"## License\n\n{card.license or 'Not stated.'}\n",
    ]
    return "\n".join(part for part in parts if part)


def _make_front_matter(card: Card, title: str) -> dict[str, Any]:
    is_identifier = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", card.license) is not None
    front: dict[str, Any] = {"library_name": "densevision", "tags": ["densevision", card.task]}
    if card.task in PIPELINE_TAGS:
        front["pipeline_tag"] = PIPELINE_TAGS[card.task]
    front["license"] = card.license.lower() if is_identifier else "other"
    metrics = {name: value for name, value in card.metrics.get("metrics", {}).items() if value is not None}
    if metrics:
        data = str(card.data.get("path") or card.data.get("source") or "unknown")
        result = {
            "task": {"type": PIPELINE_TAGS.get(card.task, card.task)},
            "dataset": {"name": data, "type": data},
            "metrics": [{"type": name, "name": name, "value": value} for name, value in metrics.items()],
        }
        front["model-index"] = [{"name": title, "results": [result]}]
    return front


def _describe_metrics(card: Card) -> str:
    from densevision.tasks import get_metric_info

    metrics = card.metrics.get("metrics", {})
    if not metrics:
        return "## Metrics\n\nThe weights state none.\n"
    texts = {name: get_metric_info(card.task, name).text for name in metrics}
    rows = [f"| {name} | {_format(value)} | {texts[name]} |" for name, value in metrics.items()]
    protocol = [f"- {name}: {_format(value)}" for name, value in card.metrics.get("protocol", {}).items()]
    table = "\n".join(["| metric | value | meaning |", "|---|---|---|", *rows])
    return (
        f"## Metrics\n\nOf the validation split during training.\n\n{table}\n\nProtocol:\n\n"
        + "\n".join(protocol)
        + "\n"
    )


def _describe_training(card: Card) -> str:
    train = card.config.get("train", {})
    lines = [f"- {name}: {_format(value)}" for name, value in card.data.items() if value not in (None, "")]
    names = ("init_from", "epochs", "batch", "optimizer", "lr", "seed")
    lines += [f"- {name}: {_format(train[name])}" for name in names if train.get(name) is not None]
    if card.classes:
        more = f" and {len(card.classes) - MAX_CLASSES} more" if len(card.classes) > MAX_CLASSES else ""
        lines.append(f"- classes: {', '.join(card.classes[:MAX_CLASSES])}{more}")
    lines += [
        f"- {name} {version}" for name, version in card.versions.items() if name in ("densevision", "torch", "timm")
    ]
    return "## Training\n\n" + "\n".join(lines) + f"\n\nThis page was written by densevision {__version__}.\n"


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _hide_paths(card: Card) -> Card:
    """The card without the folders of this machine: of absolute paths only the last part is kept."""
    return card.replace(config=_hide(card.config), data=_hide(card.data), source=_hide(card.source))


def _hide(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _hide(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_hide(item) for item in value)
    if not isinstance(value, str):
        return value
    address = find_hub_address(value)
    if address is not None:
        return str(address)
    for kind in (PurePath, PureWindowsPath):
        if kind(value).is_absolute():
            return kind(value).name
    return value
