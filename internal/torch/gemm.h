// Row-major single-precision matrix products for the small blocks of attention. libtorch carries MKL; its Fortran symbol is
// exported by libtorch_cpu and runs on one thread inside at::parallel_for.
#pragma once
#include <cstdint>

extern "C" void sgemm_(const char* ta, const char* tb, const int* m, const int* n, const int* k, const float* alpha,
                       const float* a, const int* lda, const float* b, const int* ldb, const float* beta, float* c,
                       const int* ldc);

namespace ddprun {

// C [m, n] = alpha op(A) [m, k] op(B) [k, n] + beta C
inline void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* b,
                 int64_t ldb, float beta, float* c, int64_t ldc) {
  const int mi = n, ni = m, ki = k, ai = ldb, bi = lda, ci = ldc;  // column-major sees the transposed product
  sgemm_(tb ? "T" : "N", ta ? "T" : "N", &mi, &ni, &ki, &alpha, b, &ai, a, &bi, &beta, c, &ci);
}

}  // namespace ddprun
