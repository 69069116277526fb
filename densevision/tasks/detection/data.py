"""PROVISIONAL, its author is about to replace it."""
from __future__ import annotations
from densevision.data.boxes import SceneBoxes, BoxSet
from densevision.data.recognise import recognise
from densevision.data.scenes import CLASSES, Scenes
from densevision.data.scene_splits import SceneSource
from densevision.data.box_sources import Classes
from dataclasses import replace
def read_classes(config):
    if config.data.path.startswith("scenes"): return Classes(tuple(CLASSES), tuple(range(1, len(CLASSES)+1)))
    return recognise(config.data.path).splits["train"].classes()
def open_split(config, split):
    source = recognise(config.data.path).splits[split]
    if isinstance(source, SceneSource):
        return SceneBoxes(Scenes(source.count, source.seed, (160,160), first=source.first))
    from densevision.io.findings import Findings
    return BoxSet(source.read(Findings("fix"), 10**8), source.folder, 3, 10**8)
def augment(config, dataset, index, rng, epoch):
    s = dataset[index]
    from densevision.sample import InputSpec
    v = InputSpec(3, "letterbox", config.data.size, multiple_of=32).view(s.size)
    return replace(s, images={"image": v.image_to_network(s.images["image"], 114.)}, truth=s.truth.warp(v.matrix, v.size))
