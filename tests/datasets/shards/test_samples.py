"""A dataset in shards or remote storage gives the samples of the folder with the same files, for every task."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densevision import check
from densevision.datasets.conversion import convert_dataset
from densevision.errors import DataError, UsageError
from densevision.io.content_cache import ContentCache
from densevision.io.decode import CorruptImageError
from densevision.io.remote import RemoteError
from densevision.sample import Sample
from densevision.tasks import load_config, load_task
from tests.datasets.shards.conftest import MAKERS, draw, make_coco, make_masks, make_yolo

pytest.importorskip("pyarrow")


def read_samples(task: str, path: str | Path, split: str = "train", **options: Any) -> list[Sample]:
    config = load_config(task).resolve(None, {"data.path": str(path), **options})
    config = load_task(task).infer_from_data(config)
    samples = load_task(task)(config).open_dataset(split)
    return [samples[index] for index in range(len(samples))]


def assert_same(first: Any, second: Any) -> None:
    if isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for pair in zip(first, second):
            assert_same(*pair)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_same(first[name], second[name])
    elif hasattr(type(first), "__dataclass_fields__"):
        for field in fields(first):
            if field.name not in ("source", "file"):
                assert_same(getattr(first, field.name), getattr(second, field.name))
    elif not callable(first):
        assert first == second or (first != first and second != second)


@pytest.mark.parametrize("task", list(MAKERS))
def test_samples__of_tar_parquet_and_remote_folder_equal_those_of_the_folder(
    task: str, tmp_path: Path, upload: Callable[[Path], str]
) -> None:
    make, options = MAKERS[task]
    make(tmp_path / "set")
    expected = {split: read_samples(task, tmp_path / "set", split, **options) for split in ("train", "val")}
    places: list[str] = [upload(tmp_path / "set")]
    for kind in ("webdataset", "parquet"):
        convert_dataset(tmp_path / "set", tmp_path / kind, kind)
        places += [str(tmp_path / kind), upload(tmp_path / kind)]
    assert expected["train"] and expected["val"]
    for place in places:
        for split, samples in expected.items():
            assert_same(samples, read_samples(task, place, split, **options))


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_columns__of_a_web_dataset_of_other_tools(tmp_path: Path) -> None:
    make_masks(tmp_path / "set")
    for split in ("train", "val"):
        members = {}
        for image in sorted((tmp_path / "set" / "images" / split).iterdir()):
            mask = tmp_path / "set" / "masks" / split / f"{image.stem}.png"
            members |= {f"{image.stem}.jpg": image.read_bytes(), f"{image.stem}.seg.png": mask.read_bytes()}
            members[f"{image.stem}.json"] = b"{}"
        write_tar(tmp_path / "wds" / f"{split}-000000.tar", members)
    columns = {"jpg": "images/{split}/{key}.jpg", "seg.png": "masks/{split}/{key}.png"}
    options: dict[str, Any] = {"classes": ["a", "b", "c"]}
    pattern = tmp_path / "wds" / "*-{000000..000000}.tar"
    samples = read_samples("semantic", pattern, **options, **{"data.columns": columns})
    assert_same(read_samples("semantic", tmp_path / "set", **options), samples)


@pytest.mark.parametrize("form", ["xywh", "xyxy"])
def test_columns__objects_of_parquet_as_hugging_face_stores_them(tmp_path: Path, form: str) -> None:
    import pyarrow
    from pyarrow import parquet

    make_coco(tmp_path / "set")
    for split, name in (("train", "train"), ("val", "validation")):
        content = json.loads((tmp_path / "set" / split / "_annotations.coco.json").read_text())
        rows = []
        for image, entry in zip(content["images"], content["annotations"]):
            x, y, width, height = entry["bbox"]
            box = [x, y, width, height] if form == "xywh" else [x, y, x + width, y + height]
            objects = {"bbox": [box], "category": [0], "area": [700.0], "segmentation": [entry["segmentation"]]}
            data = (tmp_path / "set" / split / image["file_name"]).read_bytes()
            rows.append({"image": {"bytes": data, "path": None}, "width": 48, "height": 40, "objects": objects})
        feature = {"category": {"names": ["cat"], "_type": "ClassLabel"}}
        info = {"info": {"features": {"image": {"_type": "Image"}, "objects": {"feature": feature}}}}
        table = pyarrow.Table.from_pylist(rows).replace_schema_metadata({"huggingface": json.dumps(info)})
        file = tmp_path / "hub" / "data" / f"{name}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, file, row_group_size=2)
    options = {} if form == "xywh" else {"data.columns": {"image": "{split}/{key}", "objects": "objects:xyxy"}}
    for task in ("detection", "instance"):
        for split in ("train", "val"):
            expected = read_samples(task, tmp_path / "set", split)
            for a, b in zip(expected, read_samples(task, tmp_path / "hub", split, **options), strict=True):
                assert_same(a.images, b.images)
                np.testing.assert_allclose(a.truth.boxes, b.truth.boxes)  # type: ignore[union-attr]
                assert a.truth.names == b.truth.names == ("cat",)  # type: ignore[union-attr]
                if task == "instance":
                    assert_same(a.truth.masks, b.truth.masks)  # type: ignore[union-attr]


def test_a_folder_of_images_beside_its_archive__is_read_as_a_folder(tmp_path: Path) -> None:
    make_yolo(tmp_path / "set")
    (tmp_path / "set" / "images.tar").write_bytes(b"not read")
    assert len(read_samples("detection", tmp_path / "set")) == 8


def test_a_truncated_tar__is_an_error_or_a_counted_skip(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_yolo(tmp_path / "set")
    members = {str(path.relative_to(tmp_path / "set")): path.read_bytes() for path in (tmp_path / "set").rglob("*.txt")}
    members |= {str(p.relative_to(tmp_path / "set")): p.read_bytes() for p in sorted((tmp_path / "set").rglob("*.png"))}
    tar = write_tar(tmp_path / "set.tar", members)
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole.rstrip(b"\0")) - 2000])  # inside of the last image, of val
    with pytest.raises(DataError) as error:
        read_samples("detection", tar)
    assert error.value.file == str(tar)
    assert len(read_samples("detection", tar, **{"data.on_error": "skip"})) == 8
    config = load_config("detection").resolve(None, {"data.path": str(tar), "data.on_error": "skip"})
    task = load_task("detection")(load_task("detection").infer_from_data(config))
    validation = task.open_dataset("val")
    assert len(validation) == 1 and any("1.png" in note for note in validation.notes)
    assert "cut short" in caplog.text


def test_a_shard_cut_after_it_was_opened__is_a_corrupt_image(tmp_path: Path) -> None:
    make_yolo(tmp_path / "set")
    convert_dataset(tmp_path / "set", tmp_path / "tars", "webdataset")
    config = load_config("detection").resolve(None, {"data.path": str(tmp_path / "tars")})
    task = load_task("detection")(load_task("detection").infer_from_data(config))
    samples = task.open_dataset("train")
    (tar,) = (tmp_path / "tars").iterdir()
    tar.write_bytes(tar.read_bytes()[:4096])
    with pytest.raises(CorruptImageError):
        samples[6]  # 7 was read last, and is still in memory


def test_errors__name_the_file_as_the_user_knows_it(tmp_path: Path, upload: Callable[[Path], str]) -> None:
    make_yolo(tmp_path / "set")
    (tmp_path / "set" / "images" / "train" / "3.png").write_bytes(b"\x89PNG broken")
    address = upload(tmp_path / "set")
    with pytest.raises(DataError) as error:
        read_samples("detection", address)
    assert error.value.file == f"{address}/images/train/3.png"
    assert len(read_samples("detection", address, **{"data.on_error": "skip"})) == 7


def test_storage_that_fails__is_an_error_that_names_the_address(
    tmp_path: Path, upload: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_yolo(tmp_path / "set")
    address = upload(tmp_path / "set")
    config = load_config("detection").resolve(None, {"data.path": address})
    task = load_task("detection")(load_task("detection").infer_from_data(config))
    samples = task.open_dataset("train")
    for file in (tmp_path / "cache" / "contents").rglob("??/*"):
        file.unlink()
    monkeypatch.setattr("densevision.io.remote.ATTEMPTS", 1)
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cat_file", raise_timeout)
    with pytest.raises(RemoteError) as error:
        samples[0]
    assert str(error.value.file).startswith("memory://")
    with pytest.raises(DataError) as absent:
        read_samples("detection", f"{address}-absent")
    assert absent.value.file == f"{address}-absent"


def raise_timeout(*_: Any, **__: Any) -> bytes:
    raise TimeoutError("no response")


@pytest.mark.parametrize("name", ["../outside.png", "/absolute.png"])
def test_names_that_lead_out_of_the_dataset__are_refused(tmp_path: Path, name: str) -> None:
    tar = write_tar(tmp_path / "set.tar", {"classes.txt": b"a\n", name: b"x"})
    with pytest.raises(DataError):
        read_samples("detection", tar)
    assert not list(tmp_path.rglob("outside.png"))


def test_two_files_of_one_name__are_an_error(tmp_path: Path) -> None:
    for number in (0, 1):
        write_tar(tmp_path / "set" / f"part-{number}.tar", {"a.png": b"x"})
    with pytest.raises(DataError, match=r"a\.png"):
        read_samples("detection", tmp_path / "set")


def test_columns__without_shards_have_no_effect(tmp_path: Path, upload: Callable[[Path], str]) -> None:
    make_yolo(tmp_path / "set")
    for place in (str(tmp_path / "set"), upload(tmp_path / "set")):
        with pytest.raises(UsageError) as error:
            read_samples("detection", place, **{"data.columns": {"jpg": "{key}.jpg"}})
        assert error.value.field == "data.columns"


def test_changed_remote_files__are_read_anew(tmp_path: Path, upload: Callable[[Path], str]) -> None:
    import fsspec

    from densevision.io.image import write_image

    make_yolo(tmp_path / "set")
    address = upload(tmp_path / "set")
    before = read_samples("detection", address)
    write_image(tmp_path / "new.png", draw(999))
    fsspec.filesystem("memory").put(str(tmp_path / "new.png"), f"{address[8:]}/images/train/0.png")
    after = read_samples("detection", address)
    np.testing.assert_array_equal(after[0].images["image"], draw(999))
    assert (before[0].images["image"] != after[0].images["image"]).any()


def test_check__of_shards_reads_them_and_refuses_to_fix(tmp_path: Path) -> None:
    make_yolo(tmp_path / "set")
    convert_dataset(tmp_path / "set", tmp_path / "tars", "webdataset")
    folder, tars = (check("detection", tmp_path / name, quiet=True) for name in ("set", "tars"))
    assert folder.counts == tars.counts
    with pytest.raises(UsageError):
        check("detection", tmp_path / "tars", fix=tmp_path / "fixed", quiet=True)


def test_convert__from_shards_and_an_address_equals_that_from_the_folder(
    tmp_path: Path, upload: Callable[[Path], str]
) -> None:
    make_yolo(tmp_path / "set")
    convert_dataset(tmp_path / "set", tmp_path / "tars", "webdataset")
    convert_dataset(tmp_path / "set", tmp_path / "expected", "coco")
    for name, source in (("from-tars", str(tmp_path / "tars")), ("from-memory", upload(tmp_path / "set"))):
        convert_dataset(source, tmp_path / name, "coco")
        files = sorted(path.relative_to(tmp_path / "expected") for path in (tmp_path / "expected").rglob("*.*"))
        assert files and all(
            (tmp_path / name / file).read_bytes() == (tmp_path / "expected" / file).read_bytes() for file in files
        )


def test_cache__is_bounded_and_the_content_read_the_longest_ago_leaves(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "contents", 1000)
    for number in range(3):
        cache.put(f"{number:02x}key", bytes(300))
    assert cache.get("00key") is not None  # 01 is now the oldest
    cache.put("03key", bytes(300))
    assert cache.measure() <= 1000
    assert cache.get("00key") is not None and cache.get("01key") is None and cache.get("03key") is not None
    cache.put("04key", bytes(2000))
    assert cache.get("04key") is None and cache.measure() <= 1000


def test_cache__smaller_than_the_dataset_gives_the_same_samples(tmp_path: Path, upload: Callable[[Path], str]) -> None:
    make_yolo(tmp_path / "set")
    expected = read_samples("detection", tmp_path / "set")
    options = {"data.cache_size": 1e-5}  # 10 kB: an image or two
    assert_same(expected, read_samples("detection", upload(tmp_path / "set"), **options))
    cache = ContentCache(tmp_path / "cache" / "contents", 10_000)
    assert 0 < cache.measure() <= 10_000
