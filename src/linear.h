// The one thing of linear algebra that the loops here need for themselves.
#pragma once
#include <cmath>
#include <cstdint>

// Solves A x = b, n equations, where A is symmetric and positive definite (Cholesky). Of A only the upper triangle is
// read; it becomes the factor U of A = U^T U, with one over its diagonal, and b becomes x. An unknown of which rounding
// errors leave nothing is 0.
inline void solve(double* A, double* b, int64_t n) {
  for (int64_t k = 0; k < n; ++k) {
    double* U = A + k * n;
    const double inverse = U[k] > 0 ? 1 / std::sqrt(U[k]) : 0;
    U[k] = inverse;
    b[k] *= inverse;
    for (int64_t j = k + 1; j < n; ++j) U[j] *= inverse;
    for (int64_t i = k + 1; i < n; ++i) {          // along rows, which takes several numbers at a time
      double* row = A + i * n;
      for (int64_t j = i; j < n; ++j) row[j] -= U[i] * U[j];
      b[i] -= U[i] * b[k];
    }
  }
  for (int64_t k = n; k-- > 0;) {
    const double* U = A + k * n;
    for (int64_t j = k + 1; j < n; ++j) b[k] -= U[j] * b[j];
    b[k] *= U[k];
  }
}
