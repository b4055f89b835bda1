// The grid of lsm_ros/mapping/bending.py, which says what it is for, checks all shapes, and owns all memory. Nothing
// here allocates, throws or keeps state.
#include <algorithm>
#include <cstdint>

#include "linear.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Grid {
  int64_t columns, rows, layers;     // at least 2 each; in memory the layers come first, columns last
  int64_t nodes() const { return columns * rows * layers; }
};

// The two nodes of an axis between which a place lies.
struct Between {
  int64_t first;
  double shares[2];

  Between(double place, int64_t count) {
    place = std::min(std::max(0.0, place), count - 1.0);      // in this order NaN becomes 0
    first = std::min(static_cast<int64_t>(place), count - 2);
    shares[1] = place - first;
    shares[0] = 1 - shares[1];
  }
};

// The eight nodes about a place, in their order, and their shares in it.
struct Cell {
  int64_t nodes[8];
  double shares[8];

  Cell(const Grid& grid, const Between& across, const Between& down, const Between& deep) {
    for (int i = 0; i < 8; ++i) {
      const int x = i & 1, y = i >> 1 & 1, z = i >> 2;
      nodes[i] = ((deep.first + z) * grid.rows + down.first + y) * grid.columns + across.first + x;
      shares[i] = deep.shares[z] * down.shares[y] * across.shares[x];
    }
  }

  double of(const double* values) const {
    double sum = 0;
    for (int i = 0; i < 8; ++i) sum += shares[i] * values[nodes[i]];
    return sum;
  }
};

}  // namespace

// `values` (n,) at the grid's nodes that fit best the `errors` (N,) at `places` (N, 3), which count nodes across, down
// and deep: each of weight `confidence` / `variance` (N,) times Cauchy's, for so many rounds, beside a `prior` (n, n),
// the inverse covariance of the values. `work` (n + 1, n) is scratch.
EXPORT void fit_grid(const double* places, const double* errors, const double* variance, const double* confidence,
                     int64_t N, int64_t columns, int64_t rows, int64_t layers, const double* prior, double gate,
                     int64_t rounds, double* work, double* values) {
  const Grid grid{columns, rows, layers};
  const int64_t n = grid.nodes();
  double* right = work + n * n;
  std::fill(values, values + n, 0.0);
  for (int64_t round = 0; round < rounds; ++round) {
    std::copy(prior, prior + n * n, work);
    std::fill(right, right + n, 0.0);
    for (int64_t k = 0; k < N; ++k) {
      const Cell cell(grid, Between(places[3 * k], columns), Between(places[3 * k + 1], rows),
                      Between(places[3 * k + 2], layers));
      const double off = errors[k] - cell.of(values);
      const double weight = confidence[k] / (variance[k] + off * off / (gate * gate));
      for (int i = 0; i < 8; ++i) {
        const double weighted = weight * cell.shares[i];
        right[cell.nodes[i]] += weighted * errors[k];
        for (int j = i; j < 8; ++j) work[cell.nodes[i] * n + cell.nodes[j]] += weighted * cell.shares[j];
      }
    }
    solve(work, right, n);
    std::copy(right, right + n, values);
  }
}

// `values` at the grid's nodes -> `between` (height, width), at the pixels of an image all over which the grid lies;
// `deep` (height, width) counts layers.
EXPORT void read_grid(const double* values, int64_t columns, int64_t rows, int64_t layers, const float* deep,
                      int64_t height, int64_t width, float* between) {
  const Grid grid{columns, rows, layers};
  for (int64_t y = 0; y < height; ++y) {
    const Between down((y + 0.5) / height * rows - 0.5, rows);
    for (int64_t x = 0; x < width; ++x, ++deep, ++between) {
      const Between across((x + 0.5) / width * columns - 0.5, columns);
      *between = static_cast<float>(Cell(grid, across, down, Between(*deep, layers)).of(values));
    }
  }
}
