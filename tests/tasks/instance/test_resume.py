"""Resuming equals never having stopped, although the losses sample anchors and proposals at random."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from densevision import train
from densevision.errors import DenseVisionError
from densevision.training.validation import EpochEnd

TINY = {
    "data.size": 64,
    "backbone.name": "test_resnet",
    "model.fpn_channels": 16,
    "model.anchor_sizes": [16, 32, 64, 96, 128],
    "model.rpn_batch_size_per_image": 32,
    "model.rpn_pre_nms_top_n_train": 50,
    "model.rpn_post_nms_top_n_train": 50,
    "model.box_hidden": [32],
    "model.box_batch_size_per_image": 16,
    "model.mask_channels": 16,
    "model.mask_convs": 1,
    "train.epochs": 2,
    "train.batch": 4,
    "train.validate_every": 2,
    "train.precision": "float32",
}


def test_resume__samples_the_same_anchors_and_proposals(tmp_path, monkeypatch):
    train("instance", "scenes:8:7", overrides=TINY, out=tmp_path / "complete", quiet=True)
    end_epoch = EpochEnd.__call__

    def end_and_interrupt(self: EpochEnd, row: dict[str, float]) -> bool:
        end_epoch(self, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochEnd, "__call__", end_and_interrupt)
        with pytest.raises(DenseVisionError):
            train("instance", "scenes:8:7", overrides=TINY, out=tmp_path / "resumed", quiet=True)
    train(resume=tmp_path / "resumed", quiet=True)
    first, second = (load_file(tmp_path / run / "last.safetensors") for run in ("complete", "resumed"))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
