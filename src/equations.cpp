// The normal equations of nodes that are tied in pairs, seven unknowns each, in blocks of 7 x 7: most pairs of nodes
// have none, and which have one is known before its values are. lsm_ros/mapping/equations.py hands in no arrays but
// those whose types, lengths and indices it has checked.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr int64_t D = 7;
using Block = std::array<double, D * D>;         // row by row

// A += X^T diag(w) Y.
void add_product(double* A, const double* X, const double* w, const double* Y) {
  for (int64_t k = 0; k < D; ++k) {
    for (int64_t p = 0; p < D; ++p) {
      const double x = w[k] * X[D * k + p];
      if (x == 0) continue;                      // most of a Jacobian is
      for (int64_t q = 0; q < D; ++q) A[D * p + q] += x * Y[D * k + q];
    }
  }
}

// A -= X^T Y. Most of the time goes here: a row of A stays in registers.
void subtract_product(Block& A, const Block& X, const Block& Y) {
  for (int64_t p = 0; p < D; ++p) {
    std::array<double, D> row;
    std::copy_n(&A[D * p], D, row.begin());
    for (int64_t k = 0; k < D; ++k) {
      for (int64_t q = 0; q < D; ++q) row[q] -= X[D * k + p] * Y[D * k + q];
    }
    std::copy_n(row.begin(), D, &A[D * p]);
  }
}

// A = U^T U, of which only the upper triangle is read and written; U has one over its diagonal. False where A is not
// positive definite.
bool decompose(Block& A) {
  for (int64_t k = 0; k < D; ++k) {
    double* U = &A[D * k];
    if (!(U[k] > 0)) return false;
    U[k] = 1 / std::sqrt(U[k]);
    for (int64_t q = k + 1; q < D; ++q) U[q] *= U[k];
    for (int64_t p = k + 1; p < D; ++p) {
      for (int64_t q = p; q < D; ++q) A[D * p + q] -= U[p] * U[q];
    }
  }
  return true;
}

// X <- U^-T X, of `columns` columns.
void divide(const Block& U, double* X, int64_t columns) {
  for (int64_t k = 0; k < D; ++k) {
    double* row = X + columns * k;
    for (int64_t q = 0; q < columns; ++q) row[q] *= U[D * k + k];
    for (int64_t p = k + 1; p < D; ++p) {
      for (int64_t q = 0; q < columns; ++q) X[columns * p + q] -= U[D * k + p] * row[q];
    }
  }
}

class Equations {
 public:
  // ends (ties, 2) of each tie, -1: at none of the nodes.
  Equations(int64_t nodes, int64_t ties, const int64_t* ends) : ends_(ends, ends + 2 * ties), rows_(nodes) {
    eliminate(nodes);
    int64_t count = 0;
    for (Row& row : rows_) {
      row.first = count;
      count += 1 + static_cast<int64_t>(row.others.size());
    }
    blocks_.resize(static_cast<size_t>(count));
  }

  // J^T W J, decomposed, and `gradient` (nodes, 7), J^T W r: J_i, J_j (ties, 7, 7) by the steps of either end, weights
  // and residuals (ties, 7). False where the nodes are not determined.
  bool decompose_sum(const double* J_i, const double* J_j, const double* weights, const double* residuals,
                     double* gradient) {
    std::fill(blocks_.begin(), blocks_.end(), Block{});
    std::fill_n(gradient, D * rows_.size(), 0.0);
    for (size_t tie = 0; tie < ends_.size() / 2; ++tie, J_i += D * D, J_j += D * D, weights += D, residuals += D) {
      const double* J[2] = {J_i, J_j};
      const int64_t* ends = &ends_[2 * tie];
      for (int a = 0; a < 2; ++a) {
        if (ends[a] < 0) continue;
        double* mine = gradient + D * ends[a];
        for (int64_t k = 0; k < D; ++k) {
          for (int64_t p = 0; p < D; ++p) mine[p] += J[a][D * k + p] * weights[k] * residuals[k];
        }
        for (int b = 0; b < 2; ++b) {
          if (ends[b] < 0 || place_[ends[a]] > place_[ends[b]]) continue;        // the upper triangle is enough
          add_product(block(place_[ends[a]], place_[ends[b]]).data(), J[a], weights, J[b]);
        }
      }
    }
    return decompose();
  }

  // b (nodes, 7) becomes the solution.
  void solve(double* b) const {
    for (size_t k = 0; k < rows_.size(); ++k) {
      double* mine = b + D * order_[k];
      divide(blocks_[rows_[k].first], mine, 1);
      for (size_t n = 0; n < rows_[k].others.size(); ++n) {
        const Block& U = blocks_[rows_[k].first + 1 + n];
        double* other = b + D * order_[rows_[k].others[n]];
        for (int64_t p = 0; p < D; ++p) {
          for (int64_t q = 0; q < D; ++q) other[q] -= U[D * p + q] * mine[p];
        }
      }
    }
    for (size_t k = rows_.size(); k-- > 0;) {
      double* mine = b + D * order_[k];
      for (size_t n = 0; n < rows_[k].others.size(); ++n) {
        const Block& U = blocks_[rows_[k].first + 1 + n];
        const double* other = b + D * order_[rows_[k].others[n]];
        for (int64_t p = 0; p < D; ++p) {
          for (int64_t q = 0; q < D; ++q) mine[p] -= U[D * p + q] * other[q];
        }
      }
      const Block& U = blocks_[rows_[k].first];
      for (int64_t p = D; p-- > 0;) {
        for (int64_t q = p + 1; q < D; ++q) mine[p] -= U[D * p + q] * mine[q];
        mine[p] *= U[D * p + p];
      }
    }
  }

 private:
  // A node's row of the upper triangle. Rows are numbered as their nodes are eliminated, that is their place.
  struct Row {
    std::vector<int64_t> others;                 // places, in order, of the nodes that it has blocks with
    int64_t first = 0;                           // its diagonal block; theirs follow
  };

  // Which node goes when: always one with the fewest neighbours (minimum degree; Tinney and Walker, 1967), which are
  // neighbours of each other from then on.
  void eliminate(int64_t nodes) {
    std::vector<std::vector<int64_t>> around(nodes);
    for (size_t tie = 0; tie < ends_.size() / 2; ++tie) {
      const int64_t i = ends_[2 * tie], j = ends_[2 * tie + 1];
      if (i < 0 || j < 0 || i == j) continue;
      around[i].push_back(j);
      around[j].push_back(i);
    }
    for (auto& neighbours : around) {
      std::sort(neighbours.begin(), neighbours.end());
      neighbours.erase(std::unique(neighbours.begin(), neighbours.end()), neighbours.end());
    }
    place_.assign(nodes, -1);
    std::vector<int64_t> merged;
    for (int64_t place = 0; place < nodes; ++place) {
      int64_t next = -1;
      for (int64_t node = 0; node < nodes; ++node) {
        if (place_[node] < 0 && (next < 0 || around[node].size() < around[next].size())) next = node;
      }
      place_[next] = place;
      order_.push_back(next);
      for (const int64_t node : around[next]) {
        merged.clear();
        std::set_union(around[node].begin(), around[node].end(), around[next].begin(), around[next].end(),
                       std::back_inserter(merged));
        merged.erase(std::remove_if(merged.begin(), merged.end(), [&](int64_t n) { return n == node || n == next; }),
                     merged.end());
        around[node] = merged;
      }
      rows_[place].others = std::move(around[next]);
    }
    for (Row& row : rows_) {
      for (int64_t& node : row.others) node = place_[node];
      std::sort(row.others.begin(), row.others.end());
    }
  }

  // In the row of one place, that of another one, which has a block there.
  Block& block(int64_t place, int64_t other) {
    const Row& row = rows_[place];
    if (place == other) return blocks_[row.first];
    const auto found = std::lower_bound(row.others.begin(), row.others.end(), other);
    return blocks_[row.first + 1 + (found - row.others.begin())];
  }

  // Cholesky, U^T U, block by block.
  bool decompose() {
    for (const Row& row : rows_) {
      Block* mine = &blocks_[row.first];
      if (!::decompose(*mine)) return false;
      ++mine;
      const size_t count = row.others.size();
      for (size_t n = 0; n < count; ++n) divide(mine[-1], mine[n].data(), D);
      for (size_t m = 0; m < count; ++m) {
        const Row& target = rows_[row.others[m]];
        Block* block = &blocks_[target.first];
        subtract_product(*block, mine[m], mine[m]);
        const int64_t* other = target.others.data();         // has those of the row from m on among its own
        for (size_t n = m + 1; n < count; ++n) {
          while (*other != row.others[n]) ++other;
          subtract_product(block[1 + (other - target.others.data())], mine[m], mine[n]);
        }
      }
    }
    return true;
  }

  std::vector<int64_t> ends_, order_, place_;    // of the ties; the node at each place, and the place of each node
  std::vector<Row> rows_;
  std::vector<Block> blocks_;
};

}  // namespace

// The arrays are those of the class above.
EXPORT Equations* equations_new(int64_t nodes, int64_t ties, const int64_t* ends) {
  return new Equations(nodes, ties, ends);
}

EXPORT void equations_delete(Equations* equations) { delete equations; }

// Returns whether the nodes are determined; where they are not there is nothing to solve.
EXPORT int64_t equations_decompose(Equations* equations, const double* J_i, const double* J_j, const double* weights,
                                   const double* residuals, double* gradient) {
  return equations->decompose_sum(J_i, J_j, weights, residuals, gradient);
}

EXPORT void equations_solve(const Equations* equations, double* b) { equations->solve(b); }
