"""SE(3) and Sim(3) as 4x4 matrices [[s R, t], [0, 1]], their tangent spaces, quaternions, and the turn between axes.

Every function takes any number of leading dimensions. `S_a_b` takes coordinates in frame b to frame a, so that
S_a_b @ S_b_c = S_a_c. A tangent vector is (rho, phi, sigma): translation, rotation (radians), log of the scale.
"""
from __future__ import annotations

import numpy as np

# Turns OpenCV axes (x right, y down, z forward) into those of ROS, REP 103 (x forward, y left, z up).
R_ROS_CV = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
UP_CV = np.array([0.0, -1.0, 0.0])     # "up" of a camera that is held level
POSE_TOLERANCE = 0.02      # of a rotation's products and a pose's last row: files round to two or three digits
STRAIGHT = 0.99            # cosine of up and the axis of a camera that looks straight up or down


def sim3(R: np.ndarray, t: np.ndarray, s: np.ndarray | float = 1.0) -> np.ndarray:
    """(..., 4, 4) float64 of a rotation (..., 3, 3), a translation (..., 3) and a scale (...,)."""
    R, t, s = np.asarray(R, dtype=np.float64), np.asarray(t, dtype=np.float64), np.asarray(s, dtype=np.float64)
    S = np.zeros((*np.broadcast_shapes(R.shape[:-2], t.shape[:-1], s.shape), 4, 4))
    S[..., :3, :3] = s[..., None, None] * R
    S[..., :3, 3] = t
    S[..., 3, 3] = 1.0
    return S


def is_pose(T: np.ndarray) -> bool:
    """Whether (4, 4) is a rotation and a translation, all of it finite."""
    if not np.isfinite(T).all():
        return False
    R = T[:3, :3]
    return bool(np.allclose(R.T @ R, np.eye(3), atol=POSE_TOLERANCE) and np.linalg.det(R) > 0
                and np.allclose(T[3], (0, 0, 0, 1), atol=POSE_TOLERANCE))


def scaling(s: np.ndarray | float) -> np.ndarray:
    """(..., 4, 4) that multiplies lengths by s (...,)."""
    return sim3(np.eye(3), np.zeros(3), s)


def scale_of(S: np.ndarray) -> np.ndarray:
    """(...,) the scale s."""
    return np.sqrt(np.square(S[..., :3, :3]).sum(axis=(-2, -1)) / 3)


def rotation_of(S: np.ndarray) -> np.ndarray:
    """(..., 3, 3) the rotation R."""
    return S[..., :3, :3] / scale_of(S)[..., None, None]


def rigid_of(S: np.ndarray) -> np.ndarray:
    """(..., 4, 4) the same rotation and translation with scale 1: the pose of a camera whose units are scaled."""
    return sim3(rotation_of(S), S[..., :3, 3])


def inverse(S: np.ndarray) -> np.ndarray:
    """(..., 4, 4) inverse of a Sim(3), or of an SE(3)."""
    s = scale_of(S)
    A = np.swapaxes(S[..., :3, :3], -1, -2) / (s * s)[..., None, None]
    inverted = np.zeros_like(S, dtype=np.float64)
    inverted[..., :3, :3] = A
    inverted[..., :3, 3] = -(A @ S[..., :3, 3, None])[..., 0]
    inverted[..., 3, 3] = 1.0
    return inverted


def transform(S: np.ndarray, points: np.ndarray) -> np.ndarray:
    """S (..., 4, 4) applied to points (..., N, 3); the result has the dtype of the points."""
    A = np.swapaxes(S[..., :3, :3], -1, -2).astype(points.dtype, copy=False)
    return points @ A + S[..., None, :3, 3].astype(points.dtype, copy=False)


def hat(v: np.ndarray) -> np.ndarray:
    """(..., 3, 3) the matrix of the cross product with v (..., 3)."""
    M = np.zeros((*v.shape, 3))
    M[..., 0, 1], M[..., 0, 2], M[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    M[..., 1, 0], M[..., 2, 0], M[..., 2, 1] = v[..., 2], -v[..., 1], v[..., 0]
    return M


def _axis_angle(phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    angle = np.linalg.norm(phi, axis=-1)
    return phi / np.where(angle > 0, angle, 1.0)[..., None], angle


def _translation_jacobian(n: np.ndarray, angle: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """V (..., 3, 3) of exp: the integral of exp(u (sigma I + [phi]x)) for u in 0..1, so that t = V rho.

    The eigenvalues of sigma I + [phi]x are sigma along the axis n and sigma +- i angle across it, and V is a function
    of that matrix, (e^z - 1) / z of each; no case is singular.
    """
    along, across = _expm1_over(sigma.astype(complex)).real, _expm1_over(sigma + 1j * angle)
    N = hat(n)
    b, c = across.imag, along - across.real
    return along[..., None, None] * np.eye(3) + b[..., None, None] * N + c[..., None, None] * (N @ N)


def _expm1_over(z: np.ndarray) -> np.ndarray:
    """(e^z - 1) / z, 1 at 0."""
    small = np.abs(z) < 1e-6
    return np.where(small, 1 + z / 2, np.expm1(z) / np.where(small, 1, z))


def exp_so3(phi: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotation by the vector phi (..., 3), radians (Rodrigues)."""
    n, angle = _axis_angle(np.asarray(phi, dtype=np.float64))
    N = hat(n)
    return np.eye(3) + np.sin(angle)[..., None, None] * N + (1 - np.cos(angle))[..., None, None] * (N @ N)


def log_so3(R: np.ndarray) -> np.ndarray:
    """(..., 3) rotation vector in radians, at most pi long."""
    q = quaternion_from_matrix(R)
    v, w = q[..., :3], q[..., 3]
    length = np.linalg.norm(v, axis=-1)
    angle = 2 * np.arctan2(length, w)
    return v * np.where(length > 1e-12, angle / np.where(length > 1e-12, length, 1.0), 2.0)[..., None]


def exp(xi: np.ndarray) -> np.ndarray:
    """(..., 4, 4) Sim(3) of tangent vectors (..., 7), or SE(3) of (..., 6)."""
    xi = np.asarray(xi, dtype=np.float64)
    rho, phi = xi[..., :3], xi[..., 3:6]
    sigma = xi[..., 6] if xi.shape[-1] == 7 else np.zeros(xi.shape[:-1])
    n, angle = _axis_angle(phi)
    V = _translation_jacobian(n, angle, sigma)
    return sim3(exp_so3(phi), (V @ rho[..., None])[..., 0], np.exp(sigma))


def log(S: np.ndarray) -> np.ndarray:
    """(..., 7) tangent vectors of a Sim(3); the last is 0 for an SE(3)."""
    s = scale_of(S)
    phi, sigma = log_so3(S[..., :3, :3] / s[..., None, None]), np.log(s)
    n, angle = _axis_angle(phi)
    rho = np.linalg.solve(_translation_jacobian(n, angle, sigma), S[..., :3, 3, None])[..., 0]
    return np.concatenate([rho, phi, sigma[..., None]], axis=-1)


def adjoint(S: np.ndarray) -> np.ndarray:
    """(..., 7, 7) with S exp(xi) S^-1 = exp(adjoint(S) xi)."""
    R, t = rotation_of(S), S[..., :3, 3]
    A = np.zeros((*S.shape[:-2], 7, 7))
    A[..., :3, :3], A[..., :3, 3:6], A[..., :3, 6] = S[..., :3, :3], hat(t) @ R, -t
    A[..., 3:6, 3:6], A[..., 6, 6] = R, 1.0
    return A


def quaternion_from_matrix(R: np.ndarray) -> np.ndarray:
    """(..., 4) unit quaternion x y z w, w >= 0, of rotations (..., 3, 3).

    The columns of 4 q q^T are four scaled copies of q; the one with the largest pivot is the well-conditioned one
    (Shepperd 1978).
    """
    R = np.asarray(R, dtype=np.float64)
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    xy, xz, yz = R[..., 0, 1] + R[..., 1, 0], R[..., 0, 2] + R[..., 2, 0], R[..., 1, 2] + R[..., 2, 1]
    wx, wy, wz = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    candidates = np.stack([
        np.stack([1 + xx - yy - zz, xy, xz, wx], axis=-1),
        np.stack([xy, 1 - xx + yy - zz, yz, wy], axis=-1),
        np.stack([xz, yz, 1 - xx - yy + zz, wz], axis=-1),
        np.stack([wx, wy, wz, 1 + xx + yy + zz], axis=-1)], axis=-2)
    pivot = np.argmax(np.diagonal(candidates, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(candidates, pivot[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., 3:] < 0, -q, q)


def matrix_from_quaternion(q: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotation of quaternions x y z w (..., 4) of any length but zero."""
    q = np.asarray(q, dtype=np.float64)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    v, w = q[..., :3], q[..., 3, None, None]
    V = hat(v)
    return np.eye(3) + 2 * w * V + 2 * (V @ V)


def rotation_angle(R_a: np.ndarray, R_b: np.ndarray) -> np.ndarray:
    """(...,) radians between two rotations (..., 3, 3)."""
    return np.linalg.norm(log_so3(np.swapaxes(R_a, -1, -2) @ R_b), axis=-1)


def upright(up_cam: np.ndarray, straight: float = STRAIGHT) -> np.ndarray:
    """(3, 3) rotation from a camera to a frame with z along `up_cam` (3,) and x along the camera's level heading.

    `upright(UP_CV)` is R_ROS_CV. A camera that looks straight up or down, by a cosine of more than `straight`, takes
    its heading from the image's top edge.
    """
    z = np.asarray(up_cam, dtype=np.float64) / np.linalg.norm(up_cam)
    forward = np.array([0.0, 0.0, 1.0])
    if abs(forward @ z) > straight:
        forward = UP_CV * -np.sign(forward @ z)
    x = forward - (forward @ z) * z
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])
