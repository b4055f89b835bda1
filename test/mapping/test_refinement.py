"""Matched points move a window's poses to the truth, and only where there are enough of them."""
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lsm_ros.contracts import Frame, Keyframe, Matches, Window, WindowPrediction
from lsm_ros.geometry.sim3 import exp, exp_so3, inverse, log, rotation_angle, rotation_of, sim3, transform
from lsm_ros.mapping.refinement import PoseRefiner, refine
from lsm_ros.mapping.tracking import picture_of, track

K = np.array([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]])
SIZE = np.array([128, 96])
BARE = [picture_of(np.full((96, 128, 3), 90, np.uint8))] * 3   # of a scene without corners


@pytest.fixture
def truth():
    """Three views of a wavy wall, and the matches of each two: 150 points with exact places, three in ten wrong."""
    random = np.random.default_rng(0)
    T_window_cam = np.stack([np.eye(4), sim3(exp_so3([0.02, 0.15, 0.0]), [0.3, 0.0, 0.05]),
                             sim3(exp_so3([0.0, 0.3, 0.03]), [0.6, 0.05, 0.1])])
    v, u = np.mgrid[:96, :128]
    rays = np.stack([(u + 0.5 - 64) / 100, (v + 0.5 - 48) / 100, np.ones(u.shape)], axis=-1)
    depth = np.stack([wall_depth(T, rays) for T in T_window_cam])
    x, y = random.uniform(-0.9, 1.1, 400), random.uniform(-0.8, 0.8, 400)
    points = np.stack([x, y, wall(x, y)], axis=1)
    shares = []
    for T in T_window_cam:
        seen = transform(inverse(T), points)
        shares.append(((seen @ K.T)[:, :2] / seen[:, 2:]) / SIZE)
    inside = np.all([(s > 0.02) & (s < 0.98) for s in shares], axis=(0, 2))
    bare = WindowPrediction(depth.astype(np.float32), np.ones_like(depth, dtype=np.float32), np.stack([K] * 3),
                            T_window_cam, 1.0, np.zeros((3, 1, 1, 64), np.float32))
    seen = []
    for s in shares:
        s = s[inside][:150]
        wrong = random.random(len(s)) < 0.15                 # of each view: three in ten matches
        seen.append(np.where(wrong[:, None], random.random(s.shape), s))
    return replace(bare, matches=matched(seen))


def matched(shares, confidence=1.0):
    """Matches of the same points in all views, which show them at `shares`, (N, 2) each: half of them forth, half
    back."""
    parts = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        half = len(shares[a]) // 2
        for one, other, chosen in ((a, b, slice(half)), (b, a, slice(half, None))):
            places = shares[one][chosen], shares[other][chosen]
            parts.append((np.full(len(places[0]), one), np.full(len(places[0]), other), *places))
    a, b, from_a, in_b = (np.concatenate(part) for part in zip(*parts))
    return Matches(a, b, from_a.astype(np.float32), in_b.astype(np.float32), np.full(len(a), confidence, np.float32))


def wall(x, y):
    return 2.5 + 0.3 * np.sin(2 * x) + 0.2 * np.cos(3 * y)


def wall_depth(T, rays):
    """z depth of the wall along the rays of a camera, by fixed-point steps."""
    depth = np.full(rays.shape[:2], 2.5)
    for _ in range(60):
        world = transform(T, (rays * depth[..., None]).reshape(-1, 3)).reshape(rays.shape)
        depth = depth + 0.7 * (wall(world[..., 0], world[..., 1]) - world[..., 2])
    return depth


@pytest.fixture
def pictures(truth):
    """What the views show: the wall under a random pattern, darker from view to view."""
    v, u = np.mgrid[:240, :320]
    rays = np.stack([(u + 0.5 - 160) / 250, (v + 0.5 - 120) / 250, np.ones(u.shape)], axis=-1)
    random = np.random.default_rng(4)
    pattern = cv2.GaussianBlur(random.uniform(0, 255, (600, 600)).astype(np.float32), (0, 0), 3)
    pattern = np.clip(128 + 6 * (pattern - pattern.mean()), 0, 255)
    images = []
    for view, T in enumerate(truth.T_window_cam):
        points = transform(T, (rays * wall_depth(T, rays)[..., None]).reshape(-1, 3)).reshape(rays.shape)
        x, y = (100 * (points[..., i] + 3).astype(np.float32) for i in (0, 1))         # a centimetre a pixel
        grey = cv2.remap(pattern, x, y, cv2.INTER_LINEAR) * (1 - 0.2 * view)
        images.append(rgb((grey + random.normal(0, 2, grey.shape)).clip(0, 255).astype(np.uint8)))
    return [picture_of(image) for image in images]


def rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def seen_in(truth, view, other, shares):
    """Where `other` truly shows what `view` shows at `shares` (N, 2)."""
    rays = (np.linalg.inv(K) @ np.append(shares * SIZE, np.ones((len(shares), 1)), axis=1).T).T
    T = truth.T_window_cam
    points = rays * wall_depth(T[view], rays[None])[0][:, None]
    pixels = transform(inverse(T[other]) @ T[view], points) @ K.T
    return pixels[:, :2] / pixels[:, 2:] / SIZE


def disturbed(truth):
    """As a network errs: 9 degrees, a wrong direction, and every depth off by some per cent."""
    random = np.random.default_rng(1)
    turn = exp(np.stack([np.zeros(6), [0.2, 0.1, 0, 0.1, -0.12, 0.02], [-0.2, 0.2, 0.1, -0.1, 0.1, 0.05]]))
    noise = np.exp(0.05 * random.normal(size=truth.depth.shape)) * np.array([1.0, 1.05, 0.95])[:, None, None]
    return replace(truth, T_window_cam=truth.T_window_cam @ turn, depth=(truth.depth * noise).astype(np.float32),
                   confidence=np.full_like(truth.depth, 0.2))      # as on real images with such errors


def test_poses_are_found_among_wrong_matches(truth, pictures):
    predicted = disturbed(truth)
    found = refine(predicted, pictures)
    assert (found.support[np.triu_indices(3, 1)] > 60).all()
    for view in (1, 2):
        T, before = truth.T_window_cam[view], predicted.T_window_cam[view]
        after = found.prediction.T_window_cam[view]
        assert np.degrees(rotation_angle(rotation_of(T), rotation_of(before))) > 7
        assert np.degrees(rotation_angle(rotation_of(T), rotation_of(after))) < 1
        cosine = T[:3, 3] @ after[:3, 3] / np.linalg.norm(T[:3, 3]) / np.linalg.norm(after[:3, 3])
        assert np.degrees(np.arccos(min(cosine, 1.0))) < 4
        assert np.linalg.norm(after[:3, 3]) == pytest.approx(np.linalg.norm(T[:3, 3]), rel=0.12)
    np.testing.assert_allclose(found.prediction.T_window_cam[0], np.eye(4), atol=1e-6)


def test_an_unknown_focal_length_is_brought_nearer_to_the_truth(truth, pictures):
    short = truth.K * np.array([[0.94, 1, 1], [1, 0.94, 1], [1, 1, 1]])
    predicted = replace(blurred(truth), K=short, matches=matches_of(truth, 0.3))
    found, held = (refine(predicted, pictures, K_known=known).prediction for known in (False, True))
    np.testing.assert_allclose(held.K, short, rtol=1e-6)
    assert (abs(found.K[:, [0, 1], [0, 1]] - 100) < 3).all()
    np.testing.assert_array_equal(found.K[:, :2, 2], short[:, :2, 2])
    for view in (1, 2):
        T = truth.T_window_cam[view]
        off = [np.linalg.norm(p.T_window_cam[view][:3, 3] - T[:3, 3]) for p in (found, held)]
        assert off[0] < 0.7 * off[1]


def test_a_known_focal_length_is_kept_beside_unknown_ones(truth, monkeypatch):
    """As where CameraInfo comes later than the first images."""
    seen = dict(enumerate(BARE))
    monkeypatch.setattr(PoseRefiner, "look_at", lambda self, keyframe: SimpleNamespace(
        result=lambda: seen[keyframe.id]))
    short = truth.K * np.array([[0.94, 1, 1], [1, 0.94, 1], [1, 1, 1]])
    predicted = replace(disturbed(truth), K=np.stack([short[0], K, K]))
    for known, kept in (((1, 2), True), ((), False)):
        frames = [Frame(n, np.zeros((96, 128, 3), np.uint8), K if n in known else None) for n in range(3)]
        found = PoseRefiner()(Window(tuple(map(Keyframe, range(3), frames))), predicted).prediction
        assert np.allclose(found.K[1:], K, rtol=1e-6) == kept


def test_a_pose_that_the_network_is_sure_of_is_kept(truth):
    predicted = replace(disturbed(truth), T_window_cam=truth.T_window_cam)         # only its depth errs
    moved, doubted, sure = (np.linalg.norm((found.prediction.T_window_cam - truth.T_window_cam)[1:, :3, 3], axis=1)
                            for found in (refine(replace(predicted, pose_error=error), BARE)
                                          for error in (None, np.full(3, 2.0), np.full(3, 0.01))))
    assert (sure < 0.5 * moved).all()
    np.testing.assert_allclose(doubted, moved, rtol=0.1)


def test_a_right_prediction_is_backed_by_the_matches(truth):
    found = refine(truth, BARE)
    assert (found.support[np.triu_indices(3, 1)] > 60).all()
    np.testing.assert_allclose(found.prediction.T_window_cam, truth.T_window_cam, atol=0.02)


@pytest.mark.parametrize("matches", [None, matched([np.empty((0, 2))] * 3)])
def test_without_matches_the_network_stands_alone(truth, matches):
    predicted = replace(disturbed(truth), matches=matches)
    found = refine(predicted, BARE)
    assert not found.support.any()
    np.testing.assert_array_equal(found.prediction.T_window_cam, predicted.T_window_cam)
    np.testing.assert_array_equal(found.prediction.depth, predicted.depth)


def test_chance_matches_move_nothing(truth):
    random = np.random.default_rng(2)
    predicted = replace(disturbed(truth), matches=matched(random.random((3, 150, 2))))
    found = refine(predicted, BARE)
    assert not found.support.any()
    np.testing.assert_array_equal(found.prediction.T_window_cam, predicted.T_window_cam)


def test_a_point_at_the_lens_breaks_nothing(truth):
    predicted = disturbed(truth)
    predicted.depth[1] = 1e-3
    assert np.isfinite(refine(predicted, BARE).prediction.T_window_cam).all()


def followed(a, b, T_a_b, depth_b):
    """One pair's places in a and in b."""
    return track([(a, b)], T_a_b[None], K[None], K[None], depth_b[None])[1:]


def test_corners_are_followed_to_a_fraction_of_a_pixel(truth, pictures):
    off = exp(np.array([0.03, -0.02, 0.02, 0.004, 0.006, 0.02]))                       # some pixels, and depth 3 % off
    T_a_b = inverse(truth.T_window_cam[0]) @ truth.T_window_cam[2] @ off
    in_a, in_b = followed(pictures[0], pictures[2], T_a_b, 1.03 * truth.depth[2])
    assert len(in_a) > 60
    error = np.linalg.norm((in_a - seen_in(truth, 2, 0, in_b)) * (320, 240), axis=1)
    assert np.median(error) < 0.2 and np.quantile(error, 0.9) < 0.6
    assert np.linalg.norm((in_a - in_b) * (320, 240), axis=1).min() > 5                # the views do differ


def test_corners_are_followed_through_a_turn_about_the_lens(truth, pictures):
    roll = np.eye(4)
    roll[:3, :3] = exp_so3([0, 0, np.pi])
    upside_down = picture_of(rgb(pictures[0].grey[::-1, ::-1]))
    T_a_b = inverse(truth.T_window_cam[0] @ roll) @ truth.T_window_cam[1]
    in_a, in_b = followed(upside_down, pictures[1], T_a_b, truth.depth[1])
    assert len(in_a) > 60
    error = np.linalg.norm((1 - in_a - seen_in(truth, 1, 0, in_b)) * (320, 240), axis=1)
    assert np.median(error) < 0.3


def test_nothing_is_followed_into_another_scene(truth, pictures):
    noise = np.random.default_rng(5).uniform(0, 255, (240, 320)).astype(np.float32)
    other = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    T_a_b = inverse(truth.T_window_cam[0]) @ truth.T_window_cam[1]
    # of 120 corners; above it was more than 60
    for wrong in (picture_of(rgb(other)), BARE[0]):
        assert len(followed(wrong, pictures[1], T_a_b, truth.depth[1])[0]) < 20
    behind = T_a_b @ exp(np.array([0, 0, -20.0, 0, 0, 0]))
    assert len(followed(pictures[0], pictures[1], behind, truth.depth[1])[0]) < 20
    for bare in (BARE[0], picture_of(np.zeros((8, 10, 3), np.uint8))):
        assert len(followed(pictures[0], bare, T_a_b, truth.depth[1])[0]) == 0


def matches_of(truth, pixels, pairs=((0, 1), (0, 2), (1, 2)), points=150):
    """What a network matches that errs by `pixels` of its image, both ways."""
    random = np.random.default_rng(6)
    parts = []
    for a, b in (way for pair in pairs for way in (pair, pair[::-1])):
        from_a = random.uniform(0.05, 0.95, (points, 2))
        in_b = seen_in(truth, a, b, from_a) + random.normal(0, pixels, (points, 2)) / SIZE
        good = ((in_b > 0) & (in_b < 1)).all(axis=1)
        parts.append((np.full(good.sum(), a), np.full(good.sum(), b), from_a[good], in_b[good]))
    a, b, from_a, in_b = (np.concatenate(part) for part in zip(*parts))
    return Matches(a, b, from_a.astype(np.float32), in_b.astype(np.float32), np.full(len(a), 0.9, np.float32))


def turned_off(truth, predicted, shown):
    """How far the poses of the other views are turned off once refined, degrees."""
    found = refine(predicted, shown).prediction
    return np.degrees(rotation_angle(rotation_of(found.T_window_cam), rotation_of(truth.T_window_cam)))[1:]


def blurred(truth):
    off = exp(np.stack([np.zeros(6), [0.02, 0.03, 0, 0.02, -0.01, 0.01], [-0.03, 0.02, 0.02, -0.02, 0.01, 0.02]]))
    noise = np.exp(0.03 * np.sin(np.linspace(0, 6, SIZE[0])))
    return replace(truth, matches=matches_of(truth, 1.0), T_window_cam=truth.T_window_cam @ off,
                   depth=(truth.depth * noise).astype(np.float32), confidence=np.full_like(truth.depth, 0.7))


def test_followed_corners_sharpen_what_blurred_matches_leave(truth, pictures):
    matched, followed = (turned_off(truth, blurred(truth), shown) for shown in (BARE, pictures))
    assert (followed < 0.15).all() and followed.mean() < 0.5 * matched.mean(), (matched, followed)


def test_depth_bends_to_what_followed_corners_tell(truth, pictures):
    v, u = (np.mgrid[:96, :128] / [[[96]], [[128]]]) - 0.5
    bend = np.exp([0.1 * u, 0.1 * v, -0.1 * u]).astype(np.float32)

    def off(depth):
        error = np.log(depth / truth.depth)
        return np.abs(error - np.median(error)).mean()           # scale is not theirs to tell

    slanted = replace(blurred(truth), depth=truth.depth * bend)
    assert off(refine(slanted, pictures).prediction.depth) < 0.6 * off(slanted.depth)


def test_where_one_view_has_few_corners_those_of_the_other_are_followed(truth, pictures):
    few = [*pictures[:2], replace(pictures[2], corners=pictures[2].corners[:5])]
    assert (turned_off(truth, blurred(truth), few) < 0.4).all()        # 0.8 if only the few were followed


def test_matches_in_a_part_of_the_image_leave_poses_less_certain(truth):
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 40))
    found = []
    for size in (0.12, 0.3):                                 # of the part, as a share of the image
        shares = 0.5 + size * np.stack([x, y], axis=1)
        all_of_them = [shares, *(seen_in(truth, 0, view, shares) for view in (1, 2))]
        found.append(refine(replace(truth, matches=matched(all_of_them)), BARE))
    few, many = (np.linalg.norm(f.pose_sigma, axis=2) for f in found)
    assert found[0].support.max() == found[1].support.max() == 40
    assert (few > 1.5 * many)[~np.eye(3, dtype=bool)].all()
    for f in found:
        off = log(inverse(inverse(truth.T_window_cam[0]) @ truth.T_window_cam[2])
                  @ inverse(f.prediction.T_window_cam[0]) @ f.prediction.T_window_cam[2])[:6]
        assert (np.abs(off) < 3 * f.pose_sigma[0, 2]).all() and (f.pose_sigma[0, 2, 3:] < 0.1).all()
    assert np.isinf(refine(replace(truth, matches=None), BARE).pose_sigma).all()


def test_a_pair_that_contradicts_the_others_is_left_out(truth):
    off = exp(np.stack([np.zeros(6), np.zeros(6), [0, 0.05, 0, 0.05, 0, 0.05]]))                # 4 degrees
    elsewhere = replace(truth, T_window_cam=truth.T_window_cam @ off)
    right = matches_of(truth, 0.2, pairs=((0, 1), (1, 2)))
    wrong = matches_of(elsewhere, 0.2, pairs=((0, 2),), points=70)
    both = Matches(*(np.concatenate([getattr(part, name) for part in (right, wrong)])
                     for name in ("a", "b", "shares_a", "shares_b", "confidence")))
    alone, contradicted = (turned_off(truth, replace(truth, matches=matches), BARE) for matches in (right, both))
    np.testing.assert_allclose(contradicted, alone, atol=0.02)


def test_large_images_are_reduced():
    image = np.random.default_rng(3).integers(0, 255, (480, 640, 3), np.uint8)
    assert picture_of(image).grey.shape == (240, 320) and picture_of(image[:90, :120]).grey.shape == (90, 120)


def test_what_moves_says_nothing_of_the_cameras(truth, pictures):
    """In the left .6 of each view all has moved: more matches than there are of what stands still, and of one mind."""
    matches, moved = truth.matches, truth.matches.shares_b.copy()
    left = matches.shares_a[:, 0] < 0.6
    moved[left, 0] += np.where(matches.a < matches.b, 0.12, -0.12)[left]
    moving = np.zeros((3, 48, 64), np.float32)
    moving[:, :, :39] = 1
    predicted = replace(disturbed(truth), matches=replace(matches, shares_b=moved))

    def error_of(found):
        return max(np.degrees(rotation_angle(rotation_of(truth.T_window_cam[view]),
                                             rotation_of(found.prediction.T_window_cam[view]))) for view in (1, 2))

    assert error_of(refine(predicted, pictures)) > 5
    assert error_of(refine(replace(predicted, moving=moving), pictures)) < 1.5
