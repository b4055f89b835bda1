// The map's voxels: what a view brings to them, and where their rows lie. lsm_ros/mapping/semantic_map.py says what it
// is all for; it owns every array, and hands in none but those whose type and length it has checked.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <unordered_map>
#include <utility>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// As in semantic_map.py: a key packs the three indices of a cell, and these are the first columns of a voxel's row.
constexpr int BITS = 21;
constexpr int64_t OFFSET = int64_t{1} << (BITS - 1);
enum Column { THROUGH, SEEN, SIGHTINGS, POINTS, WEIGHT, EVIDENCE_WEIGHT, POSITION, COLOR = 9, CLASSES = 12 };

// Cells lie in cubes of 8 x 8 x 8 (Niessner et al., 2013): neighbours are found together, and the table stays so small
// that it grows without a pause.
constexpr int64_t INSIDE = 7;
constexpr int CELLS = 512;

// How much a view says of a place: UNIT at a depth of one metre, 16 at 8 m; depths below NEAREST weigh no more.
constexpr double UNIT = 1000, NEAREST = 0.1;
// No single sighting may exclude a class for good.
constexpr float LOG_FLOOR = -7;
// A view sees through what lies CLEAR_FROM voxels and CLEAR_SHARE of its depth before its surface, and through
// CLEAR_STEPS voxels (as in semantic_map.py); twice as many gain next to nothing. Of the pixels, every other one of
// every other row: at 2 m their rays are a voxel apart.
constexpr double CLEAR_FROM = 3, CLEAR_SHARE = 0.10;
constexpr int CLEAR_STEPS = 5, CLEAR_STRIDE = 2;

using Vector = std::array<double, 3>;
using Cell = std::array<int64_t, 3>;

// Whether a key can tell the cell of a point whose coordinates are in cells. Of what is no number none can.
bool has_key(const Vector& point) {
  constexpr double BEYOND = OFFSET - 1;
  return (std::abs(point[0]) < BEYOND) & (std::abs(point[1]) < BEYOND) & (std::abs(point[2]) < BEYOND);
}

// The cell of such a point. (std::floor is a call where the processor may be any.)
Cell cell_of(const Vector& point) {
  Cell cell;
  for (int a = 0; a < 3; ++a) cell[a] = static_cast<int32_t>(point[a] + OFFSET) - OFFSET;
  return cell;
}

// For who is told that a point has no key: its largest index, as far as 64 bits go.
int64_t largest_index(const Vector& point) {
  constexpr double LARGEST = 4e18;
  double largest = 0;
  for (const double x : point) largest = std::abs(x) < LARGEST ? std::max(largest, std::abs(x)) : LARGEST;
  return std::max(OFFSET, static_cast<int64_t>(largest));
}

int64_t key_of(const Cell& cell) {
  return (cell[0] + OFFSET) << 2 * BITS | (cell[1] + OFFSET) << BITS | (cell[2] + OFFSET);
}

int64_t cube_of(int64_t key) { return key & ~(INSIDE << 2 * BITS | INSIDE << BITS | INSIDE); }

int cell_in_cube(int64_t key) {
  return static_cast<int>((key >> 2 * BITS & INSIDE) << 6 | (key >> BITS & INSIDE) << 3 | (key & INSIDE));
}

struct Hash {
  size_t operator()(int64_t key) const {      // Fibonacci hashing (Knuth), of a key whose high bits reach the low ones
    const uint64_t mixed = static_cast<uint64_t>(key ^ key >> 32) * 0x9E3779B97F4A7C15u;
    return mixed ^ mixed >> 32;
  }
};

// Distinct keys, numbered as they come.
class Numbering {
 public:
  Numbering() : slots_(1 << 10, -1) {}

  // The number of a key, and whether it is new.
  std::pair<int32_t, bool> insert(int64_t key) {
    if (const int64_t cube = cube_of(key); cube != last_key_) {
      last_key_ = cube;
      last_ = find(cube);
    }
    int32_t& number = numbers_[static_cast<size_t>(last_)][static_cast<size_t>(cell_in_cube(key))];
    if (number >= 0) return {number, false};
    number = count_++;
    return {number, true};
  }

 private:
  // Which of `numbers_` are those of a cube.
  int32_t find(int64_t cube) {
    int32_t& slot = slot_of(cube);
    if (slot >= 0) return slot;
    const int32_t found = slot = static_cast<int32_t>(keys_.size());
    keys_.push_back(cube);
    numbers_.emplace_back().fill(-1);
    if (2 * keys_.size() > slots_.size()) {
      slots_.assign(2 * slots_.size(), -1);
      for (size_t i = 0; i < keys_.size(); ++i) slot_of(keys_[i]) = static_cast<int32_t>(i);
    }
    return found;
  }

  int32_t& slot_of(int64_t cube) {
    size_t slot = Hash()(cube) & (slots_.size() - 1);
    while (slots_[slot] >= 0 && keys_[static_cast<size_t>(slots_[slot])] != cube) {
      slot = (slot + 1) & (slots_.size() - 1);
    }
    return slots_[slot];
  }

  std::vector<int64_t> keys_;                            // of the cubes
  std::vector<std::array<int32_t, CELLS>> numbers_;      // of their cells, -1: none
  std::vector<int32_t> slots_;                           // a hash table: which cube; as many as a power of two
  int64_t last_key_ = -1;                                // neighbours come together: mostly it is the same cube again
  int32_t last_ = 0;
  int32_t count_ = 0;
};

// The points of a view, in the map, where lengths are in cells.
class View {
 public:
  View(const double* S, const float* points, double size) : points_(points), size_(size) {
    double squares = 0;
    for (int a = 0; a < 3; ++a) {
      for (int b = 0; b < 3; ++b) squares += S[4 * a + b] * S[4 * a + b];
      for (int b = 0; b < 4; ++b) S_[4 * a + b] = S[4 * a + b] / size;
    }
    scale_ = std::sqrt(squares / 3);
  }

  Vector in_map(int64_t pixel) const {
    const float* p = points_ + 3 * pixel;
    Vector q;
    for (int a = 0; a < 3; ++a) q[a] = S_[4 * a] * p[0] + S_[4 * a + 1] * p[1] + S_[4 * a + 2] * p[2] + S_[4 * a + 3];
    return q;
  }

  double depth(int64_t pixel) const { return scale_ * points_[3 * pixel + 2]; }      // metres of the map

  // How much the view says at a pixel.
  double says(int64_t pixel) const {
    const double at = std::max(depth(pixel), NEAREST);
    return UNIT / (at * at);
  }

  // The cells along the last part of the way to a pixel's surface, none where it is too near.
  bool see_through(int64_t pixel, std::array<Vector, CLEAR_STEPS>& ways) const {
    const double voxel = size_ / depth(pixel);      // as a share of the way
    if (!(1 - CLEAR_SHARE - voxel * (CLEAR_FROM + CLEAR_STEPS - 1) > 0)) return false;
    const Vector surface = in_map(pixel);
    for (int step = 0; step < CLEAR_STEPS; ++step) {
      const double share = 1 - CLEAR_SHARE - voxel * (CLEAR_FROM + step);
      for (int a = 0; a < 3; ++a) ways[step][a] = S_[4 * a + 3] + (surface[a] - S_[4 * a + 3]) * share;
    }
    return true;
  }

 private:
  double S_[12];
  const float* points_;
  double size_, scale_;
};

struct Cube {
  Cube() { std::fill_n(rows, CELLS, -1); }
  int32_t rows[CELLS];                        // -1: the cell has none
  int32_t through[CELLS] = {};                // weights of who sees through the cell
  int32_t filled = 0, cleared = 0;            // cells with a row; with a weight
};

struct Block {
  float* rows;
  int64_t* keys;
  uint8_t *changed, *taken, *stale;
};

class Table {
 public:
  Table(int64_t columns, int64_t block_rows) : columns_(columns), block_rows_(static_cast<int32_t>(block_rows)) {}

  void add_block(const Block& block) { blocks_.push_back(block); }
  int64_t used() const { return used_ - static_cast<int64_t>(free_.size()); }
  int64_t room() const { return static_cast<int64_t>(blocks_.size()) * block_rows_ - used(); }

  void add(int64_t n, const int64_t* keys, const float* sums, float sign) {
    rows_.resize(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) rows_[i] = row_of(keys[i]);
    for (int64_t i = 0; i < n; ++i, sums += columns_) {
      // The rows lie anywhere: asked for in time, they come while others are added.
      if (i + AHEAD < n) {
        const float* ahead = at(rows_[i + AHEAD]).values;
        for (int64_t c = 0; c < columns_; c += 16) __builtin_prefetch(ahead + c, 1);
      }
      const Place place = at(rows_[i]);
      float* mine = place.values;
      for (int64_t c = 0; c < columns_; ++c) mine[c] += sign * sums[c];
      if (sign < 0 && mine[SIGHTINGS] < 0.5f) {      // nobody left: no rounding residue either
        std::fill(mine + SEEN, mine + columns_, 0.0f);
        emptied_.push_back(rows_[i]);
      }
      place.block.changed[place.index] = place.block.stale[place.index] = 1;
    }
  }

  // Integers, so nothing is left of what is taken out. Cells need no row: a voxel may come there later.
  void clear(int64_t n, const int64_t* keys, const int32_t* weights, int32_t sign) {
    for (int64_t i = 0; i < n; ++i) {
      Cube& cube = cube_at(keys[i]);
      int32_t& through = cube.through[cell_in_cube(keys[i])];
      cube.cleared -= through != 0;
      through += sign * weights[i];
      cube.cleared += through != 0;
      const int32_t row = cube.rows[cell_in_cube(keys[i])];
      if (row >= 0) {
        const Place place = at(row);
        float* mine = place.values;
        const bool before = mine[THROUGH] <= mine[SEEN];
        mine[THROUGH] = static_cast<float>(through);
        if (before != (mine[THROUGH] <= mine[SEEN])) place.block.changed[place.index] = 1;
      }
      drop_if_empty(keys[i], cube);
    }
  }

  void told_as_gone(int64_t n, const int64_t* rows) {
    for (int64_t i = 0; i < n; ++i) emptied_.push_back(static_cast<int32_t>(rows[i]));
  }

  // Rows that lost their last sighting and got no other go to the next new voxels: a map that moves or forgets stays
  // small. What a reader of the changes still has must be told as gone before.
  void reclaim() {
    for (const int32_t row : emptied_) {
      const Place place = at(row);
      if (place.values[SIGHTINGS] >= 0.5f || place.block.taken[place.index]) continue;
      const int64_t key = place.block.keys[place.index];
      const auto found = cubes_.find(cube_of(key));
      if (found == cubes_.end()) continue;                 // was in the list twice, and its cube is gone
      Cube& cube = found->second;
      if (cube.rows[cell_in_cube(key)] != row) continue;   // was in the list twice
      place.block.changed[place.index] = 0;
      cube.rows[cell_in_cube(key)] = -1;
      --cube.filled;
      free_.push_back(row);
      drop_if_empty(key, cube);
    }
    emptied_.clear();
  }

 private:
  static constexpr int AHEAD = 8;

  struct Place {
    Block& block;
    int64_t index;                            // in the block
    float* values;                            // (columns,)
  };

  Place at(int32_t row) {
    Block& block = blocks_[static_cast<size_t>(row / block_rows_)];
    const int64_t index = row % block_rows_;
    return {block, index, block.rows + index * columns_};
  }

  // Neighbours come together: mostly it is the cube of the last key. Its address stays, whatever else comes and goes.
  Cube& cube_at(int64_t key) {
    if (last_ == nullptr || cube_of(key) != last_key_) {
      last_key_ = cube_of(key);
      last_ = &cubes_[last_key_];
    }
    return *last_;
  }

  void drop_if_empty(int64_t key, const Cube& cube) {
    if (cube.filled || cube.cleared) return;
    if (&cube == last_) last_ = nullptr;
    cubes_.erase(cube_of(key));
  }

  int32_t row_of(int64_t key) {
    Cube& cube = cube_at(key);
    int32_t& row = cube.rows[cell_in_cube(key)];
    if (row < 0) {
      row = new_row(key, cube.through[cell_in_cube(key)]);
      ++cube.filled;
    }
    return row;
  }

  int32_t new_row(int64_t key, int32_t through) {
    int32_t row = used_;
    if (free_.empty()) {
      ++used_;
    } else {
      row = free_.back();
      free_.pop_back();
    }
    const Place place = at(row);
    place.block.keys[place.index] = key;
    place.values[THROUGH] = static_cast<float>(through);
    return row;
  }

  const int64_t columns_;
  const int32_t block_rows_;
  std::vector<Block> blocks_;
  std::unordered_map<int64_t, Cube, Hash> cubes_;
  Cube* last_ = nullptr;                      // the cube that was last asked for, and its key
  int64_t last_key_ = 0;
  int32_t used_ = 0;                          // rows that were ever given to a voxel ...
  std::vector<int32_t> free_;                 // ... of these, the ones that were given back
  std::vector<int32_t> emptied_;              // rows that may have lost their last sighting since the last `reclaim`
  std::vector<int32_t> rows_;                 // of the keys that are being added
};

}  // namespace

EXPORT Table* voxels_new(int64_t columns, int64_t block_rows) { return new Table(columns, block_rows); }

EXPORT void voxels_delete(Table* table) { delete table; }

EXPORT void voxels_add_block(Table* table, float* rows, int64_t* keys, uint8_t* changed, uint8_t* taken,
                                 uint8_t* stale) {
  table->add_block({rows, keys, changed, taken, stale});
}

EXPORT int64_t voxels_used(const Table* table) { return table->used(); }

EXPORT int64_t voxels_room(const Table* table) { return table->room(); }

// keys (n,) distinct, sums (n, columns). There must be room for n rows.
EXPORT void voxels_add(Table* table, int64_t n, const int64_t* keys, const float* sums, int64_t sign) {
  table->add(n, keys, sums, static_cast<float>(sign));
}

// keys (n,) distinct, weights (n,).
EXPORT void voxels_clear(Table* table, int64_t n, const int64_t* keys, const int32_t* weights, int64_t sign) {
  table->clear(n, keys, weights, static_cast<int32_t>(sign));
}

EXPORT void voxels_told_as_gone(Table* table, int64_t n, const int64_t* rows) { table->told_as_gone(n, rows); }

EXPORT void voxels_reclaim(Table* table) { table->reclaim(); }

// What a view of h x w pixels sees, counts[0] cells, and through what it sees, counts[1] cells that are none of those.
//
// S (4, 4): from camera to map, row by row. points (h w, 3) in the camera. weight (h w): of the pixel, 0 where it is
// not to be believed. colors (h w, 3). cell (h w): the row of `evidence` (.., classes), log-probabilities, that covers
// the pixel. size: metres, of a cell. There is room for h w keys and rows of sums (12 + classes), and for
// CLEAR_STEPS h w clear_keys and clear_weights.
// Returns 0; or, where a point lies beyond all keys, its largest index, and then nothing else counts.
EXPORT int64_t view_voxels(int64_t h, int64_t w, const double* S, const float* points, const float* weight,
                               const uint8_t* colors, const int64_t* cell, int64_t classes, const float* evidence,
                               double size, int64_t* keys, float* sums, int64_t* clear_keys, int32_t* clear_weights,
                               int64_t* counts) {
  const View view(S, points, size);
  const int64_t columns = CLASSES + classes;
  Numbering cells;
  counts[0] = counts[1] = 0;
  int64_t last_key = -1, last_cell = -1;
  float *row = nullptr, run = 0;              // weight of the pixels that go to the same voxel with the same evidence
  const auto end_run = [&] {
    const float* says = evidence + last_cell * classes;
    if (run > 0) for (int64_t c = 0; c < classes; ++c) row[CLASSES + c] += run * std::max(LOG_FLOOR, says[c]);
    run = 0;
  };
  for (int64_t pixel = 0; pixel < h * w; ++pixel) {
    if (!(weight[pixel] > 0)) continue;
    const Vector point = view.in_map(pixel);
    if (!has_key(point)) return largest_index(point);
    const Cell index = cell_of(point);
    const int64_t key = key_of(index);
    if (key != last_key || cell[pixel] != last_cell) end_run();
    if (key != last_key) {
      const auto [number, is_new] = cells.insert(key);
      row = sums + number * columns;
      if (is_new) {
        keys[counts[0]++] = key;
        std::fill_n(row, columns, 0.0f);
      }
    }
    last_key = key, last_cell = cell[pixel];
    run += weight[pixel];
    row[SEEN] += static_cast<float>(view.says(pixel));
    row[POINTS] += 1;
    row[WEIGHT] += weight[pixel];
    for (int a = 0; a < 3; ++a) {
      const double from_centre = point[a] - static_cast<double>(index[a]) - 0.5;
      row[POSITION + a] += weight[pixel] * static_cast<float>(size * from_centre);
      row[COLOR + a] += weight[pixel] * colors[3 * pixel + a];
    }
  }
  end_run();
  // The pixels of one image are one sighting, not many independent ones: their evidence is averaged.
  for (int64_t number = 0; number < counts[0]; ++number) {
    row = sums + number * columns;
    const float share = 1 / row[POINTS];
    row[SIGHTINGS] = 1;
    row[SEEN] *= share;
    row[EVIDENCE_WEIGHT] = share * row[WEIGHT];
    for (int64_t c = CLASSES; c < columns; ++c) row[c] *= share;
  }

  std::array<Vector, CLEAR_STEPS> ways;
  std::array<int64_t, CLEAR_STEPS> last;      // where the neighbour's ray was: often in the same cells
  last.fill(-1);
  for (int64_t y = 0; y < h; y += CLEAR_STRIDE) {
    for (int64_t x = 0; x < w; x += CLEAR_STRIDE) {
      const int64_t pixel = y * w + x;
      if (!(weight[pixel] > 0) || !view.see_through(pixel, ways)) continue;
      for (int step = 0; step < CLEAR_STEPS; ++step) {
        if (!has_key(ways[step])) return largest_index(ways[step]);      // the camera may lie beyond its surface
        const int64_t key = key_of(cell_of(ways[step]));
        if (key == last[step]) continue;
        last[step] = key;
        if (!cells.insert(key).second) continue;
        clear_keys[counts[1]] = key;
        clear_weights[counts[1]++] = static_cast<int32_t>(std::lrint(view.says(pixel)));
      }
    }
  }
  return 0;
}
