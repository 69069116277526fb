"""Flow as a whole: what its config says, sequences, tiles, looks, and bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from densevision.errors import DataError, UsageError
from densevision.inference.predictor import TorchPredictor
from densevision.ops.view import fit_view
from densevision.results import FlowField
from densevision.tasks import load_config, load_task
from densevision.tasks.flow import postprocess
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.models import MODELS
from densevision.tasks.flow.task import Flow
from densevision.tasks.flow.warm_start import project_forward
from densevision.training.train import make_card

CONFIGS = Path(__file__).parents[3] / "configs" / "flow"


def model(**settings) -> TorchPredictor:
    torch.manual_seed(0)
    task = Flow(FlowConfig.resolve(None, {"arch": "raft_tiny", "model.iterations": 2, **settings}))
    return TorchPredictor(task, task.build_model().eval(), make_card(task.config, 0))


def frames(count: int, size: tuple[int, int] = (40, 56)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


def test_task__is_detected_by_name():
    assert load_task("flow") is Flow and load_config("flow") is FlowConfig


def test_variants__have_the_published_numbers_of_parameters():
    """RAFT-small has 990,162 and RAFT-large 5,257,536, as torchvision documents."""
    counts = {}
    for preset in ("tiny", "small", "large"):
        with torch.device("meta"):
            net = Flow(FlowConfig.from_dict({"arch": f"raft_{preset}", "model": {"occlusion": False}})).build_model()
        counts[preset] = sum(weight.numel() for weight in net.parameters())
    assert counts["small"] == 990_162 and counts["large"] == 5_257_536 and counts["tiny"] < 1_000_000


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": {"census_radius": 2}},
        {"loss": {"matching": 0.1, "supervision": "photometric"}},
        {"data": {"size": (100, 128)}},
        {"augment": {"scale": (2.0, 1.0)}},
    ],
)
def test_options_without_effect__are_refused(settings):
    with pytest.raises(UsageError):
        FlowConfig.from_dict(settings)


@pytest.mark.parametrize("config_file", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configs__have_only_options_that_exist(config_file):
    task = Flow(FlowConfig.resolve(config_file))
    assert task.meta_model.input_spec


@pytest.mark.parametrize(
    "settings",
    [
        {"backbone.name": "resnet50"},
        {"arch": "sea_raft_s", "backbone.freeze": 1},
        {"arch": "sea_raft_s", "loss.gamma": 0.5},
        {"model.width": 3},
        {"arch": "raft_timm", "backbone.name": "vgg11", "model.stride": 3},
    ],
)
def test_model_options_without_effect__are_refused(settings):
    with pytest.raises(UsageError):
        Flow(FlowConfig.resolve(None, settings)).build_model()


@pytest.mark.parametrize("arch", MODELS)
def test_architectures__build_and_name_their_inputs(arch):
    model = Flow(FlowConfig.resolve(None, {"arch": arch})).meta_model
    assert list(model.input_spec) == ["first", "second"]


@pytest.mark.parametrize("option", ["forward_backward", "warm_start"])
def test_sea_raft__refuses_options_that_it_lacks(option):
    with pytest.raises(UsageError, match=option):
        model(arch="sea_raft_s").predict(frames(3), **{option: True})


def test_sea_raft__predicts_a_field():
    result = model(arch="sea_raft_s").predict(tuple(frames(2)))
    assert result.flow.shape == (2, 40, 56) and result.occlusion is None


def test_timm_level__shares_its_features():
    task = Flow(FlowConfig.resolve(None, {"arch": "raft_timm_tiny", "backbone.name": "mobilenetv3_small_050"}))
    net = task.build_model().eval()
    assert net.encoder.strides == [1, 8]
    with torch.no_grad():
        outputs = net(first=torch.rand(1, 3, 128, 136), second=torch.rand(1, 3, 128, 136), iterations=1)
    assert outputs["flow"].shape == (1, 2, 128, 136) and outputs["occlusion"].shape == (1, 128, 136)


def test_canvas__continues_the_edges_around_the_middle():
    view = Flow(FlowConfig()).input_spec["first"].view((388, 584))
    assert view.size == (392, 584) and view.offset == (0.0, 2.0)
    image = np.arange(388, dtype=np.float32)[:, None, None] + np.zeros((1, 584, 3), np.float32)
    rows = view.image_to_network(image, "edge")[:, 0, 0]
    assert rows[:4].tolist() == [0, 0, 0, 1] and rows[-4:].tolist() == [386, 387, 387, 387]


def test_iterations__change_the_prediction():
    flow = model()
    pair = tuple(frames(2))
    one, two, three = (flow.predict(pair, iterations=number).flow for number in (1, 2, 3))
    np.testing.assert_array_equal(flow.predict(pair).flow, two)
    assert np.abs(one - two).max() > 1e-4 < np.abs(three - two).max()


def test_sequence__gives_a_record_per_neighboring_pair():
    results = model().predict(frames(3), precision="float32")
    assert [type(result) for result in results] == [FlowField, FlowField]
    assert results[0].size == (40, 56) and results[0].occlusion.shape == (40, 56)


def test_warm_start__begins_where_the_last_pair_led():
    flow, sequence = model(), frames(3)
    cold = flow.predict(sequence, precision="float32")
    warm = flow.predict(sequence, precision="float32", warm_start=True)
    np.testing.assert_array_equal(cold[0].flow, warm[0].flow)
    assert np.abs(cold[1].flow - warm[1].flow).max() > 1e-4


def test_warm_start__refuses_what_it_cannot_follow():
    with pytest.raises(UsageError, match="warm_start"):
        model().predict(frames(3), warm_start=True, batch=2)


def test_carried__moves_the_motion_along_itself():
    flow = np.zeros((2, 64, 64), np.float32)
    flow[0, 16:32, 8:24] = 24  # cells (2..3, 1..2) move right by three cells
    cells = project_forward(flow, 8)
    assert cells.shape == (2, 8, 8)
    np.testing.assert_array_equal(cells[0, 2:4, 4:6], 3)
    assert not cells[0, :2].any() and not cells[1].any() and cells[0, 2, 7] == 0


def test_consistency__finds_occlusion_for_any_model():
    pair, flow = tuple(frames(2)), model(**{"model.occlusion": False})
    assert flow.predict(pair).occlusion is None
    found = flow.predict(pair, forward_backward=True, precision="float32")
    assert set(np.unique(found.occluded)) <= {False, True} and found.occlusion.shape == (40, 56)


def test_tiles_and_views__give_one_field_of_the_images_size():
    flow, pair = model(), tuple(frames(2, (150, 210)))
    for options in ({"tile": 128}, {"tta": ("flip",)}, {"tta": ("scale",)}):
        result = flow.predict(pair, **options)
        assert result.flow.shape == (2, 150, 210) and result.valid.all() and result.occlusion.shape == (150, 210)


def test_fields__turn_round_in_a_mirror_and_shrink_with_the_image():
    answers = {"flow": torch.tensor([4.0, 6.0]).view(1, 2, 1, 1).expand(1, 2, 16, 16)}
    view = fit_view((8, 8), "letterbox", 16)
    own = postprocess.to_image_space(answers, view)
    assert own["flow"].shape == (1, 2, 8, 8) and own["flow"][0, :, 0, 0].tolist() == [2, 3]
    assert postprocess.to_image_space(answers, view, mirrored=True)["flow"][0, :, 0, 0].tolist() == [-2, 3]


def test_flip__predictions_a_mirrored_pair_with_mirrored_flow():
    """The mean over both looks is the same for a pair and for its mirror image, mirrored back."""
    flow, pair = model(), frames(2, (128, 128))
    one = flow.predict(tuple(pair), tta=("flip",), precision="float32").flow
    other = flow.predict(
        tuple(np.ascontiguousarray(each[:, ::-1]) for each in pair), tta=("flip",), precision="float32"
    )
    np.testing.assert_allclose(other.flow[:, :, ::-1] * np.array([-1, 1]).reshape(2, 1, 1), one, atol=1e-3)


def test_smallest_images__are_predicted():
    """Below the network's least side the canvas continues the edges; nothing is refused."""
    assert model().predict(tuple(frames(2, (1, 1)))).flow.shape == (2, 1, 1)


def test_bad_input__is_named():
    flow = model()
    first, second = frames(2)
    with pytest.raises(DataError, match="different sizes"):
        flow.predict((first, second[:-1]))
    with pytest.raises(DataError, match="1 image, but 2 are needed"):
        flow.predict(first)
    with pytest.raises(DataError, match="1 image"):
        flow.predict("street.png")
    with pytest.raises(UsageError, match="score_threshold"):
        flow.predict((first, second), score_threshold=0.5)


def test_a_file_that_is_one_image__needs_a_second(tmp_path):
    from densevision.io.image import write_image

    write_image(tmp_path / "a.png", frames(1)[0])
    with pytest.raises(DataError, match="needed: first, second"):
        model().predict(str(tmp_path / "a.png"))
