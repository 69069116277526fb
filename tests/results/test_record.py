"""What every record writes under a suffix is what other programs read under it."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.errors import UsageError
from densevision.results import DepthMap, Detections, FlowField, Image, Instances, SemanticMap

SIZE = (3, 4)
LABELS = np.arange(12, dtype=np.uint8).reshape(SIZE) % 3
ARRAYS = {
    "semantic": (SemanticMap(labels=LABELS, names=("a", "b", "c"), size=SIZE), LABELS),
    "depth": (DepthMap.from_arrays(1.0 + LABELS, kind="metric", unit="m"), 1.0 + LABELS),
    "flow": (FlowField.from_arrays(np.stack([LABELS, -1.0 * LABELS])), np.dstack([LABELS, -1.0 * LABELS])),
    "image": (Image.from_source(np.dstack([LABELS] * 3)), np.dstack([LABELS] * 3)),
}
OBJECTS = {
    "detection": Detections.from_arrays(np.array([[0.0, 0, 2, 2]]), np.array([0]), ("a",), SIZE),
    "instance": Instances.from_arrays(np.array([[0.0, 0, 2, 2]]), np.array([0]), ("a",), SIZE),
}


@pytest.mark.parametrize("task", ARRAYS)
def test_npy__is_the_one_array_that_the_record_is_of(tmp_path, task):
    record, array = ARRAYS[task]
    found = np.load(record.save(tmp_path / "a.npy"), allow_pickle=False)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("task", OBJECTS)
def test_npy__of_objects_which_are_several_arrays_is_refused(tmp_path, task):
    with pytest.raises(UsageError, match=r"cannot be saved in this form.*npz"):
        OBJECTS[task].save(tmp_path / "a.npy")
    assert not (tmp_path / "a.npy").exists()
    assert set(np.load(OBJECTS[task].save(tmp_path / "a.npz"))) >= {"boxes", "labels", "size"}
