"""Runs the notebooks of examples/ and stores their outputs: python tools/run_notebooks.py [NAME ...]"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent / "examples"
MAX_WIDTH = 720
"""Pixels; wider drawings are reduced in the stored notebook."""
JPEG_QUALITY = 85
KEPT_METADATA = ("kernelspec", "language_info")


def shrink_image(output: dict[str, Any]) -> None:
    """Replaces the PNG of an output by a JPEG that is a tenth as large."""
    import cv2
    import numpy as np

    data = output.get("data", {})
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            drawing = cv2.imdecode(np.frombuffer(base64.b64decode(data.pop(kind)), np.uint8), cv2.IMREAD_COLOR)
            height, width = drawing.shape[:2]
            if width > MAX_WIDTH:
                size = (MAX_WIDTH, round(height * MAX_WIDTH / width))
                drawing = cv2.resize(drawing, size, interpolation=cv2.INTER_AREA)
            encoded = cv2.imencode(".jpg", drawing, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            data["image/jpeg"] = base64.b64encode(encoded.tobytes()).decode()


def main(names: list[str]) -> None:
    import nbclient
    import nbformat

    for file in [EXAMPLES / f"{name}.ipynb" for name in names] or sorted(EXAMPLES.glob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            nbclient.NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": folder}}).execute()
        for cell in notebook.cells:
            cell.metadata = {}  # clock times
            if "outputs" in cell:
                cell.outputs = [output for output in cell.outputs if "TqdmWarning" not in output.get("text", "")]
            for output in cell.get("outputs", ()):
                shrink_image(output)
        notebook.metadata = {name: notebook.metadata[name] for name in KEPT_METADATA if name in notebook.metadata}
        nbformat.write(notebook, file)
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
