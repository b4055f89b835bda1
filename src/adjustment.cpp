// What matches between two views say of their poses: the loops over single matches of lsm_ros/mapping/sightings.py,
// which says why they are so, checks all shapes, and owns all memory. Nothing here allocates, throws or keeps state.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "linear.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// A row of Sightings.rows: a point of view a, as view b sees it.
struct Sighting {
  double point[3];       // in camera a, before scale and zoom
  double ray[2];         // where b sees it, on its plane z = 1
  double sigma;          // error of the ray, > 0
  double depth_sigma;    // error of the log of the point's depth
  double confidence;
};
static_assert(sizeof(Sighting) == 8 * sizeof(double), "eight numbers without gaps");

// Where b would see the point, as far as the poses are right.
struct Projection {
  double u, v;           // on its plane z = 1
  double per_metre;      // how far that place, times the zoom, moves with a metre across
  double by_depth[2];    // how it moves with the log of the point's depth,
  double off[2];         // and how far it lies from the ray: the residual
};

// False if the point is behind b or too near to it, and `seen` is then unfinished. T is T_b_a, (4, 4).
bool project(const Sighting& sighting, const double* T, double scale, double zoom, double nearest, Projection& seen) {
  const double x = sighting.point[0] * (scale / zoom), y = sighting.point[1] * (scale / zoom);
  const double z = sighting.point[2] * scale;
  const double depth = T[8] * x + T[9] * y + T[10] * z + T[11];
  if (!(depth > nearest * z)) return false;      // NaN is not before the camera either
  const double inverse = 1 / depth;
  seen.u = (T[0] * x + T[1] * y + T[2] * z + T[3]) * inverse;
  seen.v = (T[4] * x + T[5] * y + T[6] * z + T[7]) * inverse;
  seen.per_metre = zoom * inverse;
  // A deeper point moves by R p = q - t, q being the point in b: along q nobody sees it move.
  seen.by_depth[0] = seen.per_metre * (seen.u * T[11] - T[3]);
  seen.by_depth[1] = seen.per_metre * (seen.v * T[11] - T[7]);
  seen.off[0] = zoom * seen.u - sighting.ray[0];
  seen.off[1] = zoom * seen.v - sighting.ray[1];
  return true;
}

// The inverse of the covariance sigma^2 I + d d^T of a residual, d being what the error of the depth makes of it. By
// Cramer's rule it is (sigma^2 I + n n^T) / determinant, n being d turned by a right angle. Near b's lens d is so long
// that the difference I - d d^T / (sigma^2 + d^T d) would lose its digits; a sum does not.
struct Information {
  double sigma2, n[2], determinant;

  Information(const Sighting& sighting, const Projection& seen)
      : sigma2(sighting.sigma * sighting.sigma),
        n{-sighting.depth_sigma * seen.by_depth[1], sighting.depth_sigma * seen.by_depth[0]},
        determinant(sigma2 * (sigma2 + n[0] * n[0] + n[1] * n[1])) {}

  // The residual's square in sigmas, times the determinant: nobody needs to divide.
  double square(const double* off) const {
    const double across = n[0] * off[0] + n[1] * off[1];
    return sigma2 * (off[0] * off[0] + off[1] * off[1]) + across * across;
  }
};

// Poses are (4, 4), rigid: T = inverse(A) B.
void between(const double* A, const double* B, double* T) {
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 4; ++j) {
      double sum = 0;
      for (int k = 0; k < 3; ++k) sum += A[4 * k + i] * (B[4 * k + j] - (j == 3 ? A[4 * k + 3] : 0));
      T[4 * i + j] = sum;
    }
  T[12] = T[13] = T[14] = 0;
  T[15] = 1;
}

// T <- T [exp(turn), shift]: a pose's step (6,), the shift before the turn.
void move(double* T, const double* step) {
  const double *shift = step, *turn = step + 3;
  const double square = turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2], angle = std::sqrt(square);
  const double a = angle > 1e-6 ? std::sin(angle) / angle : 1, b = angle > 1e-6 ? (1 - std::cos(angle)) / square : 0.5;
  const double M[3][4] = {
      {1 + b * (turn[0] * turn[0] - square), b * turn[0] * turn[1] - a * turn[2], b * turn[0] * turn[2] + a * turn[1],
       shift[0]},
      {b * turn[0] * turn[1] + a * turn[2], 1 + b * (turn[1] * turn[1] - square), b * turn[1] * turn[2] - a * turn[0],
       shift[1]},
      {b * turn[0] * turn[2] - a * turn[1], b * turn[1] * turn[2] + a * turn[0], 1 + b * (turn[2] * turn[2] - square),
       shift[2]}};
  for (int i = 0; i < 3; ++i, T += 4) {
    const double row[3] = {T[0], T[1], T[2]};
    for (int j = 0; j < 4; ++j) T[j] = row[0] * M[0][j] + row[1] * M[1][j] + row[2] * M[2][j] + (j == 3 ? T[3] : 0);
  }
}

// What the unknowns of a pair do to T_b_a and the zoom, in seven rows: fourteen columns, of a's pose and the log of its
// scale, of b's pose, and of the log of the zoom. A depth that grows is a Sim(3)'s scale that does.
struct Unknowns {
  double M[7][14] = {};

  explicit Unknowns(const double* T) {
    const double t[3] = {T[3], T[7], T[11]};
    for (int i = 0; i < 3; ++i) {
      const int next = (i + 1) % 3, last = (i + 2) % 3;
      for (int j = 0; j < 3; ++j) {
        M[i][j] = M[i + 3][j + 3] = T[4 * i + j];
        M[i][j + 3] = t[next] * T[4 * last + j] - t[last] * T[4 * next + j];
      }
      M[i][6] = -t[i];
    }
    for (int i = 0; i < 6; ++i) M[i][7 + i] = -1;
    M[6][13] = 1;
  }

  // The place of a column among those of all S views.
  static int64_t place(int column, int64_t a, int64_t b, int64_t S) {
    return column < 7 ? 7 * a + column : column < 13 ? 7 * b + column - 7 : 7 * S;
  }
};

// How far T lies from the predicted pose: the shift, and twice the sine of half the turn about its axis.
void apart(const double* predicted, const double* pose, double* off) {
  double T[16];
  between(predicted, pose, T);
  const double cosine = std::sqrt(std::max(1 + T[0] + T[5] + T[10], 1e-9));       // twice that of half the turn
  for (int i = 0; i < 3; ++i) off[i] = T[4 * i + 3];
  off[3] = (T[9] - T[6]) / cosine;
  off[4] = (T[2] - T[8]) / cosine;
  off[5] = (T[4] - T[1]) / cosine;
}

// `normal` (pairs, 7, 8) gets J^T W J and J^T W r of each pair, under Cauchy's kernel: r are the residuals, W their
// inverse covariances times the confidence. J is by a step of the pose, T_b_a <- exp(step) T_b_a, and by the log of the
// zoom. The depth scale of a needs no column: what its log does to what b sees, a shift by -t does.
void normal_equations(const Sighting* sightings, const int64_t* counts, int64_t pairs, const double* T_b_a,
                      const double* scales, double zoom, double nearest, double gate, double* normal) {
  const double doubt = 1 / (gate * gate);
  for (int64_t pair = 0; pair < pairs; ++pair, T_b_a += 16, normal += 7 * 8) {
    const double* T = T_b_a;
    double sums[7][8][2] = {};                   // the products of u apart from those of v: two lanes, added at last
    for (const Sighting* end = sightings + counts[pair]; sightings != end; ++sightings) {
      Projection seen;
      if (!project(*sightings, T, scales[pair], zoom, nearest, seen)) continue;
      const Information information(*sightings, seen);
      const double weight = sightings->confidence / (information.determinant + doubt * information.square(seen.off));
      const double* n = information.n;
      const double xx = weight * (information.sigma2 + n[0] * n[0]);
      const double xy = weight * n[0] * n[1];
      const double yy = weight * (information.sigma2 + n[1] * n[1]);

      const double u = seen.u, v = seen.v, f = seen.per_metre, z = sightings->point[2] * scales[pair];
      const double foot[3] = {T[2] * z + T[3], T[6] * z + T[7], T[10] * z + T[11]};    // of the point on a's axis
      const double J[8][2] = {
          {f, 0},                                // shift along the axes of b
          {0, f},
          {-f * u, -f * v},
          {-zoom * u * v, -zoom * (1 + v * v)},  // turn about them
          {zoom * (1 + u * u), zoom * u * v},
          {-zoom * v, zoom * u},
          {zoom * u + f * (foot[0] - u * foot[2]),  // zoom widens b's image, and draws the points of a to its axis
           zoom * v + f * (foot[1] - v * foot[2])},
          {seen.off[0], seen.off[1]}};
      for (int i = 0; i < 7; ++i) {
        const double weighted[2] = {xx * J[i][0] + xy * J[i][1], xy * J[i][0] + yy * J[i][1]};
        for (int j = i; j < 8; ++j)
          for (int lane = 0; lane < 2; ++lane) sums[i][j][lane] += weighted[lane] * J[j][lane];
      }
    }
    for (int i = 0; i < 7; ++i)
      for (int j = 0; j < 8; ++j) {
        const double* sum = j < i ? sums[j][i] : sums[i][j];
        normal[8 * i + j] = sum[0] + sum[1];
      }
  }
}

}  // namespace

// All take the sightings of all pairs one after another, of each as many as `counts` (pairs,) says, N together;
// T_b_a (pairs, 4, 4), scales (pairs,) of the depth of a, and a zoom > 0. `nearest` is a share of the point's depth,
// `gate` > 0 is in sigmas. No array may overlap another one.

// `agree` (N,): whether each match lies within the gate.
EXPORT void agreement(const Sighting* sightings, const int64_t* counts, int64_t pairs, const double* T_b_a,
                      const double* scales, double zoom, double nearest, double gate, bool* agree) {
  for (int64_t pair = 0; pair < pairs; ++pair, T_b_a += 16) {
    for (const Sighting* end = sightings + counts[pair]; sightings != end; ++sightings, ++agree) {
      Projection seen;
      *agree = false;
      if (!project(*sightings, T_b_a, scales[pair], zoom, nearest, seen)) continue;
      const Information information(*sightings, seen);
      *agree = information.square(seen.off) < gate * gate * information.determinant;
    }
  }
}

// `agree` (N,): whether each match lies within the gate of the line along which depth moves it; `error` (N,) of the log
// of the depth and its `sigma` (N,) are 0 where it does not.
EXPORT void depth_errors(const Sighting* sightings, const int64_t* counts, int64_t pairs, const double* T_b_a,
                         const double* scales, double zoom, double nearest, double gate, double* error, double* sigma,
                         bool* agree) {
  for (int64_t pair = 0; pair < pairs; ++pair, T_b_a += 16) {
    for (const Sighting* end = sightings + counts[pair]; sightings != end; ++sightings, ++error, ++sigma, ++agree) {
      Projection seen;
      *error = *sigma = 0;
      *agree = false;
      if (!project(*sightings, T_b_a, scales[pair], zoom, nearest, seen)) continue;
      const double dx = seen.by_depth[0], dy = seen.by_depth[1];
      const double length = std::sqrt(dx * dx + dy * dy) + 1e-9;       // 0 where the views stand at one place
      if (!(std::fabs(dx * seen.off[1] - dy * seen.off[0]) < gate * sightings->sigma * length)) continue;
      *error = -(dx * seen.off[0] + dy * seen.off[1]) / (length * length);
      *sigma = sightings->sigma / length;
      *agree = true;
    }
  }
}

// Steps of Gauss and Newton from the poses T_window_cam (S, 4, 4) and the `logs` (n,), n = 7 S + 1, on, which they
// move: of each view seven unknowns, a pose and the log of its depth's scale, and the log of the zoom at last. `a` and `b`
// (pairs,) are the views of the pairs. `prior` (n,) is the inverse variance of the logs and of a pose's step; `sure`
// (S, 6), one over the errors of T_predicted (S, 4, 4), holds poses there under Cauchy's kernel, 0 does not. `normal`
// (n, n) gets the matrix of the last step. `work` is scratch: (n, n), then (n,), then `pairs` times 16 + 1 + 7 x 8.
EXPORT void adjust(const Sighting* sightings, const int64_t* counts, int64_t pairs, const int64_t* a, const int64_t* b,
                   int64_t S, const double* prior, const double* T_predicted, const double* sure, int64_t steps,
                   double nearest, double gate, double* T_window_cam, double* logs, double* work, double* normal) {
  const int64_t n = 7 * S + 1;
  double* step = work + n * n;
  double* T_b_a = step + n;
  double* scales = T_b_a + 16 * pairs;
  double* of_pairs = scales + pairs;
  for (; steps > 0; --steps) {
    std::fill(normal, normal + n * n, 0.0);
    for (int64_t i = 0; i < n; ++i) {
      normal[n * i + i] = prior[i];
      step[i] = -prior[i] * logs[i];
    }
    for (int64_t pair = 0; pair < pairs; ++pair) {
      between(T_window_cam + 16 * b[pair], T_window_cam + 16 * a[pair], T_b_a + 16 * pair);
      scales[pair] = std::exp(logs[7 * a[pair] + 6]);
    }
    normal_equations(sightings, counts, pairs, T_b_a, scales, std::exp(logs[n - 1]), nearest, gate, of_pairs);
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const Unknowns unknowns(T_b_a + 16 * pair);
      const double* N = of_pairs + 7 * 8 * pair;
      for (int j = 0; j < 14; ++j) {
        double column[7] = {}, right = 0;          // of N M
        for (int k = 0; k < 7; ++k) {
          for (int i = 0; i < 7; ++i) column[i] += N[8 * i + k] * unknowns.M[k][j];
          right += N[8 * k + 7] * unknowns.M[k][j];
        }
        const int64_t place = Unknowns::place(j, a[pair], b[pair], S);
        step[place] -= right;
        for (int i = 0; i < 14; ++i) {
          double sum = 0;
          for (int k = 0; k < 7; ++k) sum += unknowns.M[k][i] * column[k];
          normal[n * Unknowns::place(i, a[pair], b[pair], S) + place] += sum;
        }
      }
    }
    for (int64_t view = 0; view < S; ++view, sure += 6) {
      double off[6], square = 0;
      apart(T_predicted + 16 * view, T_window_cam + 16 * view, off);
      for (int i = 0; i < 6; ++i) square += off[i] * off[i] * sure[i] * sure[i];
      for (int i = 0; i < 6; ++i) {
        const double weight = sure[i] * sure[i] / (1 + square / (gate * gate));
        normal[(n + 1) * (7 * view + i)] += weight;
        step[7 * view + i] -= weight * off[i];
      }
    }
    sure -= 6 * S;
    std::copy(normal, normal + n * n, work);
    solve(work, step, n);
    for (int64_t view = 0; view < S; ++view) {
      move(T_window_cam + 16 * view, step + 7 * view);
      logs[7 * view + 6] += step[7 * view + 6];
    }
    logs[n - 1] += step[n - 1];
  }
}
