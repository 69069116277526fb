"""Judges objects of any tool by COCO's rules, from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.metrics.coco_files import kinds_of, score_files


def score(truth: Path, predictions: Path) -> dict[str, Any]:
    """COCO's numbers of a result json against a truth json: metrics, protocol, counts, tables.

    What the predictions hold is judged: boxes, masks, keypoints; their numbers are named such as segm/AP.
    """
    scored = {kind: score_files(truth, predictions, kind) for kind in kinds_of(predictions)}
    metrics, tables = {}, {}
    for kind, part in scored.items():
        metrics |= {f"{kind}/{name}": value for name, value in part["metrics"].items()}
        tables |= {f"{kind} {name}": table for name, table in part["tables"].items()}
    first = next(iter(scored.values()))
    protocol = {kind: part["protocol"] for kind, part in scored.items()}
    return {"metrics": metrics, "protocol": protocol, "counts": first["counts"], "tables": tables}
