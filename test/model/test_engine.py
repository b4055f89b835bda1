"""The predictor: sizes, intrinsics, metres, and tokens that are computed once."""
from copy import deepcopy
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest
import torch

from lsm_ros.config import PredictorConfig
from lsm_ros.contracts import Frame, Keyframe, Window
from lsm_ros.data.sequences import open_sequence
from lsm_ros.errors import AlignmentError, ConfigError, InputError
from lsm_ros.mapping.registration import check_prediction
from lsm_ros.model.engine import NetworkPredictor, bfloat16_gain, has_bfloat16, network_size, patch_depth, shrink
from lsm_ros.model.graphs import MOST, Graphs, Recording
from lsm_ros.model.network import Network, NetworkConfig
from lsm_ros.resources import resource

K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
CONFIG = PredictorConfig(device="cpu", precision="float32", token_cache=8)


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    network = Network(NetworkConfig(width=48, heads=2, encoder=1, decoder="af", stem=16))
    return NetworkPredictor(CONFIG, network)


def keyframes(count, first=0, size=(480, 640), K=K):
    random = np.random.default_rng(first)
    return tuple(Keyframe(first + i, Frame(i, random.integers(0, 255, (*size, 3), np.uint8), K)) for i in range(count))


@pytest.mark.parametrize(("image", "network"), [((640, 480), (256, 192)), ((1920, 1080), (288, 160)),
                                                ((480, 640), (192, 256)), ((512, 512), (208, 208)),
                                                ((960, 320), (384, 128)), ((640, 213), (384, 128)),
                                                ((320, 960), (128, 384))])
def test_network_size(image, network):
    assert network_size(*image) == network


@pytest.mark.parametrize("image", [(640, 480), (1280, 720), (333, 250), (256, 192)])
def test_a_gpu_shrinks_an_image_as_opencv_does(image):
    pixels = np.random.default_rng(0).integers(0, 255, (*image[::-1], 3), np.uint8)
    expected = cv2.resize(pixels, (256, 192), interpolation=cv2.INTER_AREA).astype(int)
    off = shrink(torch.from_numpy(pixels).permute(2, 0, 1).float(), (256, 192)).permute(1, 2, 0).numpy() - expected
    assert np.abs(off).max() <= 1 and (off != 0).mean() < 0.001


def test_a_strip_is_refused():
    with pytest.raises(InputError, match="3000x500"):
        network_size(3000, 500)


def test_an_image_is_described_once_and_its_tokens_serve_the_window(predictor, monkeypatch):
    a, b = keyframes(2)
    encoded = []
    encode = predictor.network.encode
    monkeypatch.setattr(predictor.network, "encode", lambda *inputs: encoded.append(len(inputs[0])) or encode(*inputs))
    place = predictor.describe(b)
    assert place.shape == (320,) and np.linalg.norm(place) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(predictor.describe(b), place)
    predictor(Window((a, b)))
    assert encoded == [1, 1], "the other view alone was new to the window"


def test_prediction(predictor):
    prediction = predictor(Window(keyframes(3)))
    assert prediction.depth.shape == prediction.confidence.shape == (3, 96, 128)
    assert prediction.semantics.shape == (3, 48, 64, 64)
    assert np.allclose(prediction.T_window_cam[0], np.eye(4))
    R_window_cam = prediction.T_window_cam[:, :3, :3]
    assert np.allclose(R_window_cam @ R_window_cam.swapaxes(1, 2), np.eye(3))
    assert np.allclose(prediction.K[0], [[100, 0, 64], [0, 100, 48], [0, 0, 1]])
    assert (prediction.depth > 0).all()
    assert ((prediction.confidence >= 0) & (prediction.confidence <= 1)).all()
    assert prediction.pose_error.shape == (3,) and (prediction.pose_error > 0).all()


def test_what_the_network_cannot_see_is_refused_and_not_the_end(predictor):
    """A calibration that is one by its form, but whose rays overflow: all that the network says of it is NaN."""
    prediction = predictor(Window(keyframes(2, K=np.array([[1e-300, 0, 320], [0, 1e-300, 240], [0, 0, 1]]))))
    with pytest.raises(AlignmentError, match="not finite"):
        check_prediction(prediction, 2)
    assert np.isfinite(predictor(Window(keyframes(2, first=2))).depth).all()


def test_predicted_intrinsics_have_square_pixels_and_a_central_axis(predictor):
    K = predictor(Window(keyframes(2, K=None, size=(320, 480)))).K[0]    # 3:2 becomes 272x176: not quite square
    assert np.allclose(K[:2, 2], (68, 44))
    assert K[0, 0] / K[1, 1] == pytest.approx((136 / 480) / (88 / 320))


def test_odometry_and_depth_of_the_frames_reach_the_network(predictor):
    torch.nn.init.normal_(predictor.network.motion.weight)              # a new network does not look at them yet
    torch.nn.init.normal_(predictor.network.sparse_depth.weight)
    plain = keyframes(2)
    moved = np.eye(4)
    moved[0, 3] = 2.0

    def depth_with(**known):
        predictor.reset()
        return predictor(Window((plain[0], replace(plain[1], frame=replace(plain[1].frame, **known))))).depth[1]

    alone = depth_with()
    assert np.array_equal(depth_with(T_odom_cam=moved), alone)          # of one view alone it says nothing
    assert not np.allclose(depth_with(depth=np.full((480, 640), 3, np.float32)), alone)
    predictor.reset()
    first = replace(plain[0], frame=replace(plain[0].frame, T_odom_cam=np.eye(4)))
    second = replace(plain[1], frame=replace(plain[1].frame, T_odom_cam=moved))
    assert not np.allclose(predictor(Window((first, second))).depth[1], alone)


def test_depth_of_a_patch_is_the_median_of_what_is_known():
    depth = np.full((480, 640), np.nan, np.float32)
    depth[0, :3] = (1, 2, 30)
    depth[479, 639] = 4
    depth[100, 100] = 0
    patches = patch_depth(depth, (256, 192))
    assert patches.shape == (12, 16)
    assert patches[0, 0] == 2
    assert patches[11, 15] == 4
    assert np.count_nonzero(patches) == 2


def test_tokens_are_computed_once(predictor, monkeypatch):
    encoded = []
    encode = predictor.network.encode
    monkeypatch.setattr(predictor.network, "encode", lambda images, *rest: encoded.append(len(images)) or
                        encode(images, *rest))
    frames = keyframes(4)
    predictor(Window(frames[:3]))
    prediction = predictor(Window(frames[1:]))
    assert encoded == [3, 1]
    predictor.reset()
    assert np.allclose(predictor(Window(frames[1:])).depth, prediction.depth, rtol=1e-3)


@pytest.mark.parametrize("other", [{"image": keyframes(1, first=7)[0].frame.image}, {"K": K * [[1.5], [1.5], [1]]},
                                   {"K": None}, {"image": keyframes(1, size=(240, 320))[0].frame.image}])
def test_another_mapper_counts_its_keyframes_from_0_too(predictor, other):
    first, second = keyframes(2)
    predictor(Window((first, second)))
    another = tuple(replace(keyframe, frame=replace(keyframe.frame, **({"K": K} | other)))
                    for keyframe in (first, second))
    place, depth = predictor.describe(another[0]), predictor(Window(another)).depth
    predictor.reset()
    assert np.allclose(predictor.describe(another[0]), place) and np.allclose(predictor(Window(another)).depth, depth)


def test_the_cache_is_bounded(predictor):
    for first in range(0, 16, 4):
        predictor(Window(keyframes(4, first)))
    assert len(predictor._tokens) == 8


def test_batch_equals_one_by_one(predictor):
    windows = [Window(keyframes(2, first)) for first in (0, 10)]
    for window, prediction in zip(windows, predictor.predict_batch(windows)):
        assert np.allclose(predictor(window).depth, prediction.depth, rtol=1e-3)
        assert np.allclose(predictor(window).T_window_cam, prediction.T_window_cam, atol=1e-4)


def test_bad_windows(predictor):
    with pytest.raises(InputError, match="9 views"):
        predictor(Window(keyframes(9)))
    with pytest.raises(InputError, match="different shapes"):
        predictor(Window(keyframes(1) + keyframes(1, first=5, size=(240, 320))))


def test_bad_device():
    with pytest.raises(ConfigError, match="'tpu9'"):
        NetworkPredictor(PredictorConfig(device="tpu9"), Network())


# ---------------------------------------------------------------------------------------------------- CUDA graphs

class Replayed(Graphs):
    """Recordings as a GPU has them but for the GPU: what is recorded reads and writes the same memory every time."""

    def _record(self, function, inputs):
        own = tuple(None if each is None else each.clone() for each in inputs)
        output = function(*own)

        def replay():
            for old, new in zip(tensors(output), tensors(function(*own)), strict=True):
                old.copy_(new)

        self.recorded = getattr(self, "recorded", 0) + 1
        return Recording(own, output, replay)


def tensors(output):
    """Those of a dict or dataclass, within others too."""
    values = output.values() if isinstance(output, dict) else vars(output).values()
    return [tensor for value in values if value is not None
            for tensor in ([value] if isinstance(value, torch.Tensor) else tensors(value))]


def assert_same(prediction, expected, **tolerance):
    for name in ("depth", "confidence", "semantics", "T_window_cam", "K", "overlap", "pose_error"):
        np.testing.assert_allclose(getattr(prediction, name), getattr(expected, name), err_msg=name, **tolerance)


def test_replays_change_nothing_and_overwrite_nothing_that_is_kept(predictor):
    windows = [Window(keyframes(4)[first:first + 3]) for first in (0, 1)]
    told = replace(windows[1], keyframes=tuple(
        replace(k, id=k.id + 9, frame=replace(k.frame, T_odom_cam=np.eye(4))) for k in windows[1].keyframes))
    expected = [predictor(window) for window in (*windows, told)]
    predictor.reset()
    predictor._graphs = Replayed(predictor.device)
    found = [deepcopy(predictor(window)) for window in (*windows, told)]       # from a GPU they come as copies
    for prediction, plain in zip(found, expected, strict=True):
        assert_same(prediction, plain, rtol=1e-4, atol=1e-5)
    assert predictor._graphs.recorded == 3, "encode; read without and with odometry"


def test_recordings_are_bounded():
    graphs = Replayed(torch.device("cpu"))
    for size in range(MOST + 5):
        graphs("double", lambda x: {"y": 2 * x}, torch.ones(size + 1))
    assert len(graphs._recordings) == MOST
    graphs("double", lambda x: {"y": 2 * x}, torch.ones(1))
    assert graphs.recorded == MOST + 6, "the oldest went first"


def test_what_cannot_be_recorded_is_called_plainly(predictor, monkeypatch, caplog):
    expected = predictor(Window(keyframes(3)))
    graphs = predictor._graphs = Graphs(predictor.device)

    def refuse(*arguments):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graphs, "_record", refuse)
    predictor.reset()
    assert_same(predictor(Window(keyframes(3))), expected, rtol=1e-4, atol=1e-5)
    assert caplog.text.count("not permitted when stream is capturing") == 1 and "more" not in caplog.text


def test_out_of_memory_frees_the_recordings_and_is_told(predictor, monkeypatch):
    graphs = Replayed(predictor.device)
    graphs("double", lambda x: {"y": 2 * x}, torch.ones(1))

    def fail(*arguments):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(graphs, "_record", fail)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        graphs("double", lambda x: {"y": 2 * x}, torch.ones(2))
    assert not graphs._recordings and not graphs.failure


@pytest.mark.parametrize("device", [
    "cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))])
def test_bfloat16_agrees_with_float32(device):
    """And CUDA graphs; `lsm bench --device cuda` prints how far they are apart."""
    recorded = islice(open_sequence(resource("recordings/apartment")), 0, 40, 10)    # images of noise tell no metre
    window = Window(tuple(Keyframe(number, item.frame) for number, item in enumerate(recorded)))
    expected = NetworkPredictor(PredictorConfig(device="cpu", precision="float32"))(window)
    rounded = NetworkPredictor(PredictorConfig(device=device, precision="bfloat16"))
    for _ in range(2):                                       # on a GPU recorded, replayed
        rounded.reset()
        found = rounded(window)
        assert not rounded.graph_failure
        assert 0 < np.median(np.abs(np.log(found.depth / expected.depth))) < 0.02
        assert np.abs(found.semantics - expected.semantics).mean() < 0.02
    first = window.keyframes[0]
    darker, grey = (replace(first, id=number, frame=replace(first.frame, image=image)) for number, image in (
        (7, (first.frame.image * 0.8).astype(np.uint8)), (8, np.full_like(first.frame.image, 128))))
    place = rounded.describe(first)
    assert np.linalg.norm(place) == pytest.approx(1, abs=1e-9)
    assert rounded.describe(darker) @ place > rounded.describe(grey) @ place + 0.1


@pytest.mark.parametrize("features, gain, expected", [
    ("fpu avx2 avx512f", 2, False), ("avx2 avx512_bf16", 2, True), ("amx_tile amx_bf16", 2, True),
    ("avx2 avx512_bf16", 0.6, False)])
def test_bfloat16_is_for_processors_that_gain_by_it(monkeypatch, features, gain, expected):
    monkeypatch.setattr("pathlib.Path.read_text", lambda self, *arguments: f"flags\t: {features}\n")
    monkeypatch.setattr("lsm_ros.model.engine.bfloat16_gain", lambda: gain)
    assert has_bfloat16(torch.device("cpu")) == expected
    monkeypatch.undo()
    monkeypatch.setattr("lsm_ros.model.engine.has_bfloat16", lambda device: expected)
    network = Network(NetworkConfig(width=48, heads=2, encoder=1, decoder="af", stem=16))
    for precision, rounds in (("auto", expected), ("float32", False), ("bfloat16", True)):
        assert NetworkPredictor(PredictorConfig(device="cpu", precision=precision), network).bfloat16 == rounds


def test_gain_of_bfloat16_is_of_products_in_both_precisions(monkeypatch):
    clock, taken = [0.0], []

    def linear(x, weight):
        assert x.dtype == weight.dtype
        taken.append(x.dtype)
        clock[0] += {torch.float32: 3.0, torch.bfloat16: 2.0}[x.dtype] + 9 * (len(taken) < 5)    # slower at first
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("torch.nn.functional.linear", linear)
    assert bfloat16_gain.__wrapped__() == pytest.approx(1.5)
    assert taken.count(torch.float32) == taken.count(torch.bfloat16) > 5


@pytest.mark.parametrize("capability, expected", [((7, 2), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_is_for_gpus_that_have_it(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bfloat16(torch.device("cuda")) == expected


# ------------------------------------------------------------------------------------------------------ torch.compile

def test_where_nothing_can_be_compiled_the_network_runs_as_it_is(predictor, monkeypatch, caplog):
    def refuse(*arguments, **options):
        raise RuntimeError("Cannot find a working triton installation\nmore")

    monkeypatch.setattr(torch, "compile", refuse)
    plain = NetworkPredictor(replace(CONFIG, compile=True), predictor.network)
    assert "triton" in plain.compile_failure
    assert caplog.text.count("working triton") == 1 and "more" not in caplog.text
    window = Window(keyframes(2))
    assert_same(plain(window), predictor(window))
