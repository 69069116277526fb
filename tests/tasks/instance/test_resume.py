"""Resuming equals never having stopped, although the losses sample anchors and proposals by chance."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from densevision import train
from densevision.errors import DenseVisionError
from densevision.training.checkpointer import ValidationCallback

TINY = {
    "data.size": 64,
    "data.longest": 96,
    "backbone.name": "mobilenetv2_050",
    "rcnn.width": 16,
    "rcnn.anchors.sizes": [16, 32, 64, 96, 128],
    "rcnn.proposals.samples": 32,
    "rcnn.proposals.training_candidates": 50,
    "rcnn.proposals.training_kept": 50,
    "rcnn.box.hidden": [32],
    "rcnn.box.samples": 16,
    "mask.width": 16,
    "mask.convolutions": 1,
    "train.epochs": 3,
    "train.batch": 4,
    "train.validate_every": 3,
    "train.precision": "float32",
}


def test_resume__draws_the_same_samples(tmp_path, monkeypatch):
    train("instance", "scenes:8:7", set=TINY, out=tmp_path / "whole", quiet=True)
    saved = ValidationCallback.on_train_epoch_end

    def interrupted(self, trainer, module):
        saved(self, trainer, module)
        if trainer.current_epoch == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ValidationCallback, "on_train_epoch_end", interrupted)
        with pytest.raises(DenseVisionError, match="interrupted after 1"):
            train("instance", "scenes:8:7", set=TINY, out=tmp_path / "cut", quiet=True)
    train(resume=tmp_path / "cut", quiet=True)
    first, second = (load_file(tmp_path / run / "last.safetensors") for run in ("whole", "cut"))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
