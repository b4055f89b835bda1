// Corners of one picture, found in another one: the loops of lsm_ros/mapping/tracking.py, which says why they are so,
// checks all shapes, and owns all memory. Nothing here allocates, throws or keeps state.
#include <algorithm>
#include <cmath>
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr int RADIUS = 6, SIDE = 2 * RADIUS + 1;     // of patches, pixels
constexpr int MARGIN = 3;                            // pixels, of shifts that are looked for, on each side
constexpr int CENTRE = RADIUS + 1 + MARGIN, SPAN = 2 * CENTRE + 1;    // of sheets: gradients need one more
constexpr int LANES = 16, STRIDE = 28;               // rows as they lie in memory: loops of whole vectors

struct Place {
  float x, y;
};

// Grey levels (height, width), read between pixels; beyond the borders those at the borders go on.
struct Image {
  const uint8_t* pixels;
  int64_t height, width;

  float at(float x, float y) const {
    x = std::min(std::max(0.0f, x), width - 1.001f);        // in this order NaN becomes 0
    y = std::min(std::max(0.0f, y), height - 1.001f);
    const int column = static_cast<int>(x), row = static_cast<int>(y);
    const float right = x - column, down = y - row;
    const uint8_t* p = pixels + row * width + column;
    const float above = p[0] + right * (p[1] - p[0]), below = p[width] + right * (p[width + 1] - p[width]);
    return above + down * (below - above);
  }
};

// Where a shows what b shows: places in pixels of a, on a grid of columns x rows that lies all over b.
struct Map {
  const float *x, *y;
  int64_t rows, columns;
  float per_column, per_row;                   // nodes to a pixel of b

  Place operator()(Place b) const {
    const float u = std::min(std::max((b.x + 0.5f) * per_column - 0.5f, 0.0f), columns - 1.001f);
    const float v = std::min(std::max((b.y + 0.5f) * per_row - 0.5f, 0.0f), rows - 1.001f);
    const int64_t column = static_cast<int64_t>(u), row = static_cast<int64_t>(v), node = row * columns + column;
    const float right = u - column, down = v - row;
    const float shares[4] = {(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down};
    const int64_t nodes[4] = {node, node + 1, node + columns, node + columns + 1};
    Place a{0, 0};
    for (int i = 0; i < 4; ++i) {
      a.x += shares[i] * x[nodes[i]];
      a.y += shares[i] * y[nodes[i]];
    }
    return a;
  }
};

// A part of an image, rows x columns, as it is `right` and `down` of a pixel farther on: `image` and `out` are where it
// begins, and their next rows lie `stride` and `out_stride` farther.
template <typename Grey>
inline void shift(const Grey* __restrict image, int64_t stride, float right, float down, int rows, int columns,
                  float* __restrict out, int out_stride) {
  const float shares[4] = {(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down};
  for (int row = 0; row < rows; ++row, image += stride, out += out_stride)
    for (int i = 0; i < columns; ++i)
      out[i] = shares[0] * image[i] + shares[1] * image[i + 1] + shares[2] * image[i + stride] +
               shares[3] * image[i + stride + 1];
}

// A square of grey levels, which are looked at often: of an image near one place, or what another camera would see
// there.
struct Sheet {
  float grey[SPAN * STRIDE] = {};

  Sheet(const Image& image, Place middle) {
    const float left = middle.x - CENTRE, top = middle.y - CENTRE;
    if (!(left >= 0 && left + SPAN < image.width && top >= 0 && top + SPAN < image.height)) {
      for (int row = 0; row < SPAN; ++row)
        for (int column = 0; column < SPAN; ++column) grey[row * STRIDE + column] = image.at(left + column, top + row);
      return;
    }
    const int column = static_cast<int>(left), row = static_cast<int>(top);
    const uint8_t* p = image.pixels + row * image.width + column;
    shift(p, image.width, left - column, top - row, SPAN, SPAN, grey, STRIDE);
  }

  // `middle` is a place in the image, `slope` its pixels per pixel of the other camera.
  Sheet(const Image& image, Place middle, const float (&slope)[2][2]) {
    const float wide = CENTRE * (std::fabs(slope[0][0]) + std::fabs(slope[0][1]));
    const float high = CENTRE * (std::fabs(slope[1][0]) + std::fabs(slope[1][1]));
    const uint8_t* pixels = image.pixels;
    const int64_t width = image.width;
    const bool within = middle.x - wide > 0.01f && middle.x + wide < image.width - 1.01f && middle.y - high > 0.01f &&
                        middle.y + high < image.height - 1.01f;
    for (int row = 0; row < SPAN; ++row) {
      const float v = row - CENTRE, x = middle.x + slope[0][1] * v, y = middle.y + slope[1][1] * v;
      float* out = grey + row * STRIDE;
      if (!within) {
        for (int column = 0; column < SPAN; ++column)
          out[column] = image.at(x + slope[0][0] * (column - CENTRE), y + slope[1][0] * (column - CENTRE));
        continue;
      }
      // What most are: no border is near. Places are in 65536ths of a pixel, shares in 256ths.
      constexpr float ONE = 65536;
      const int along = static_cast<int>(ONE * slope[0][0]), down = static_cast<int>(ONE * slope[1][0]);
      int u = static_cast<int>(ONE * x) - CENTRE * along, w = static_cast<int>(ONE * y) - CENTRE * down;
      for (int column = 0; column < SPAN; ++column, u += along, w += down) {
        const uint8_t* p = pixels + (w >> 16) * width + (u >> 16);
        const int right = u >> 8 & 255, below = w >> 8 & 255;
        const int upper = 256 * p[0] + right * (p[1] - p[0]);
        const int lower = 256 * p[width] + right * (p[width + 1] - p[width]);
        out[column] = (256 * upper + below * (lower - upper)) * (1 / ONE);
      }
    }
  }

  // The middle, shifted by `off`, and `rim` more on each side; a shift is smaller than MARGIN.
  template <int rim>
  void read(Place off, float* out) const {
    const int column = static_cast<int>(std::floor(off.x)), row = static_cast<int>(std::floor(off.y));
    const float right = off.x - column, down = off.y - row;
    const float* p = grey + (CENTRE - RADIUS - rim + row) * STRIDE + CENTRE - RADIUS - rim + column;
    shift(p, STRIDE, right, down, SIDE + 2 * rim, LANES + 2 * rim, out, LANES + 2 * rim);
  }
};

// The sum over the columns of a patch; those beyond it are of no meaning.
float sum(const float (&lanes)[LANES]) {
  float total = 0;
  for (int i = 0; i < SIDE; ++i) total += lanes[i];
  return total;
}

// A patch about a place of a sheet, and what it knows of shifts.
struct Patch {
  float grey[SIDE * LANES], along[SIDE * LANES], down[SIDE * LANES];    // grey levels, and their gradients
  float xx, xy, yy;                            // the inverse of the gradients' products, summed
  bool firm;                                   // whether it tells shifts in all directions

  Patch(const Sheet& sheet, Place off, float min_gradient) {
    constexpr int WIDE = LANES + 2;
    float rim[(SIDE + 2) * WIDE], products[3][LANES] = {};
    sheet.read<1>(off, rim);
    for (int row = 0; row < SIDE; ++row)
      for (int column = 0; column < LANES; ++column) {
        const float* p = rim + (row + 1) * WIDE + column + 1;
        const int i = row * LANES + column;
        // Scharr's: a difference along one axis, smoothed along the other one
        const float x = 3 * (p[1 - WIDE] - p[-1 - WIDE] + p[1 + WIDE] - p[-1 + WIDE]) + 10 * (p[1] - p[-1]);
        const float y = 3 * (p[WIDE - 1] - p[-WIDE - 1] + p[WIDE + 1] - p[1 - WIDE]) + 10 * (p[WIDE] - p[-WIDE]);
        grey[i] = p[0];
        along[i] = x / 32;
        down[i] = y / 32;
        products[0][column] += along[i] * along[i];
        products[1][column] += along[i] * down[i];
        products[2][column] += down[i] * down[i];
      }
    const float sxx = sum(products[0]), sxy = sum(products[1]), syy = sum(products[2]);
    const float least = (sxx + syy - std::sqrt((sxx - syy) * (sxx - syy) + 4 * sxy * sxy)) / 2;
    firm = least > min_gradient * SIDE * SIDE;
    const float determinant = firm ? sxx * syy - sxy * sxy : 1;
    xx = syy / determinant;
    xy = -sxy / determinant;
    yy = sxx / determinant;
  }

  // Moves `off`, by which the sheet shows the patch beside its middle, to where it fits (Lucas and Kanade 1981). False
  // if it isn't firm or runs away; `difference` is the last one of grey levels, on average.
  bool find(const Sheet& sheet, int64_t rounds, Place& off, float& difference) const {
    constexpr float ENOUGH = 0.02f;            // pixels: a step below it is the last
    for (bool moves = firm; moves && rounds > 0; --rounds) {
      float seen[SIDE * LANES], sums[3][LANES] = {};
      sheet.read<0>(off, seen);
      for (int row = 0; row < SIDE; ++row)
        for (int column = 0; column < LANES; ++column) {
          const int i = row * LANES + column;
          const float error = seen[i] - grey[i];
          sums[0][column] += error * along[i];
          sums[1][column] += error * down[i];
          sums[2][column] += std::fabs(error);
        }
      const float x = sum(sums[0]), y = sum(sums[1]);
      const Place step{xx * x + xy * y, xy * x + yy * y};
      off = {off.x - step.x, off.y - step.y};
      if (!(std::fabs(off.x) < MARGIN && std::fabs(off.y) < MARGIN)) return false;
      moves = step.x * step.x + step.y * step.y > ENOUGH * ENOUGH;
      difference = sum(sums[2]) / (SIDE * SIDE);
    }
    return firm;
  }
};

bool inside(Place place, const Image& image, float edge) {
  return place.x >= edge && place.y >= edge && place.x < image.width - edge && place.y < image.height - edge;
}

}  // namespace

// The places (most, 2) of corners of b in both pictures, pixels of which the first one's centre is at 0; returns how
// many were found.
//
// Both pictures come with one of half their size. Of the `corners` (N, 2) of b those are looked for, `most` at most,
// that a shows by `map_x` and `map_y` (rows, columns), which lie all over b; first in the halves, then in the whole.
// None is taken or found nearer to a border than `edge`. A patch whose gradients' smaller eigenvalue is below
// `min_gradient` is none, nor one whose way back misses by `back` pixels, or whose grey levels differ by `difference`
// on average.
EXPORT int64_t follow(const uint8_t* a, const uint8_t* half_a, int64_t height_a, int64_t width_a, const uint8_t* b,
                      const uint8_t* half_b, int64_t height_b, int64_t width_b, const float* corners, int64_t N,
                      const float* map_x, const float* map_y, int64_t rows, int64_t columns, int64_t most,
                      int64_t rounds, double edge, double min_gradient, double back, double difference,
                      float* places_a, float* places_b) {
  const Image whole_a{a, height_a, width_a}, halved_a{half_a, (height_a + 1) / 2, (width_a + 1) / 2};
  const Image whole_b{b, height_b, width_b}, halved_b{half_b, (height_b + 1) / 2, (width_b + 1) / 2};
  const float per_column = static_cast<float>(columns) / width_b, per_row = static_cast<float>(rows) / height_b;
  const Map map{map_x, map_y, rows, columns, per_column, per_row};
  int64_t found = 0;
  for (const float* end = corners + 2 * N; corners != end && most > 0; corners += 2) {
    const Place corner{corners[0], corners[1]}, start = map(corner);
    if (!inside(start, whole_a, edge) || !inside(corner, whole_b, edge)) continue;
    --most;
    const float reach = RADIUS;                // over which the slope is taken: as far as a patch
    const Place right = map({corner.x + reach, corner.y}), left = map({corner.x - reach, corner.y});
    const Place low = map({corner.x, corner.y + reach}), high = map({corner.x, corner.y - reach});
    const float slope[2][2] = {{(right.x - left.x) / (2 * reach), (low.x - high.x) / (2 * reach)},
                               {(right.y - left.y) / (2 * reach), (low.y - high.y) / (2 * reach)}};
    const auto moved = [&](Place off) {
      return Place{start.x + slope[0][0] * off.x + slope[0][1] * off.y,
                   start.y + slope[1][0] * off.x + slope[1][1] * off.y};
    };
    Place coarse{0, 0}, fine{0, 0}, miss{0, 0};
    float unlike = 0;
    const Sheet half(halved_b, {corner.x / 2, corner.y / 2});
    if (Patch(half, {0, 0}, min_gradient).find({halved_a, {start.x / 2, start.y / 2}, slope}, rounds, coarse, unlike))
      coarse = {2 * coarse.x, 2 * coarse.y};
    else
      coarse = {0, 0};                                                    // it may yet be near
    const Sheet shown(whole_b, corner), drawn(whole_a, moved(coarse), slope);
    if (!Patch(shown, {0, 0}, min_gradient).find(drawn, rounds, fine, unlike) || !(unlike < difference)) continue;
    if (!Patch(drawn, fine, min_gradient).find(shown, rounds, miss, unlike)) continue;
    if (!(std::hypot(miss.x, miss.y) < back)) continue;
    const Place off{coarse.x + fine.x, coarse.y + fine.y}, there = moved(off);
    if (!inside({corner.x + off.x, corner.y + off.y}, whole_b, edge) || !inside(there, whole_a, edge)) continue;
    places_a[2 * found] = there.x;
    places_a[2 * found + 1] = there.y;
    places_b[2 * found] = corner.x;
    places_b[2 * found + 1] = corner.y;
    ++found;
  }
  return found;
}
