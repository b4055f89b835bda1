// What matches between two views say of their poses: the loops over single matches of lsm_ros/mapping/sightings.py,
// which says why they are so, checks all shapes, and owns all memory. Nothing here allocates, throws or keeps state.
#include <cmath>
#include <cstdint>

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

}  // namespace

// All three take the sightings of all pairs one after another, of each as many as `counts` (pairs,) says, N together;
// T_b_a (pairs, 4, 4), scales (pairs,) of the depth of a, and a zoom > 0. `nearest` is a share of the point's depth,
// `gate` > 0 is in sigmas. No array may overlap another one.

// `normal` (pairs, 7, 8) gets J^T W J and J^T W r of each pair, under Cauchy's kernel.
EXPORT void normal_equations(const Sighting* sightings, const int64_t* counts, int64_t pairs, const double* T_b_a,
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
