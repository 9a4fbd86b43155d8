// Attention over samples that lie back to back without padding; a sample may have fewer queries than keys. Of the [Q, K] probabilities only their row sums' logarithms
// are kept; the backward pass computes them again, block by block, in a buffer that stays in the cache.
#pragma once
#include "gemm.h"
#include "grad.h"
#include "vexp.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <memory>
#include <vector>


namespace ddprun {
namespace {

constexpr int64_t kBlock = 128;  // query rows at once

// Masks of a row are drawn for the query's row times heads plus head; columns are keys of the sample.
struct Rows {
  int64_t keys;        // K
  int64_t heads;
  int64_t first;       // row of the block's first query
  int64_t head;
  bool drop;
  DropKey key;
};

inline __attribute__((always_inline)) void max16(const float* row, int64_t n, float& out) {
  float m[16];
  for (int l = 0; l < 16; l++) m[l] = -INFINITY;
  int64_t k = 0;
  for (; k + 16 <= n; k += 16) for (int l = 0; l < 16; l++) m[l] = row[k + l] > m[l] ? row[k + l] : m[l];
  float best = -INFINITY;
  for (int l = 0; l < 16; l++) best = m[l] > best ? m[l] : best;
  for (; k < n; k++) best = row[k] > best ? row[k] : best;
  out = best;
}

// Scores -> dropped probabilities, in place; lse: logarithm of each row's sum.
DDPRUN_CLONES void softmax_rows(const Rows& a, float* s, int64_t rows, float* lse) {
  float mult[kTile];
  for (int64_t i = 0; i < rows; i++) {
    float* row = s + i * a.keys;
    float best;
    max16(row, a.keys, best);
    float acc[16] = {0};
    int64_t k = 0;
    for (; k + 16 <= a.keys; k += 16)
      for (int l = 0; l < 16; l++) {
        const float e = vexp(row[k + l] - best);
        row[k + l] = e;
        acc[l] += e;
      }
    float sum = 0;
    for (; k < a.keys; k++) sum += row[k] = vexp(row[k] - best);
    for (int l = 0; l < 16; l++) sum += acc[l];
    lse[i] = best + std::log(sum);
    const float inv = 1.0f / sum;
    for (int64_t t = 0; t * kTile < a.keys; t++) {
      float* tile = row + t * kTile;
      const int64_t n = std::min<int64_t>(kTile, a.keys - t * kTile);
      if (a.drop) {
        drop_tile(a.key, t, (a.first + i) * a.heads + a.head, mult);
        for (int64_t c = 0; c < n; c++) tile[c] *= inv * mult[c];
      } else {
        for (int64_t c = 0; c < n; c++) tile[c] *= inv;
      }
    }
  }
}

// s: scores -> dropped probabilities; d: gradients of dropped probabilities -> gradients of the scores. delta: rows' dO . O.
DDPRUN_CLONES void softmax_grad_rows(const Rows& a, float* s, float* d, int64_t rows, const float* lse, const float* delta) {
  float mult[kTile];
  for (int l = 0; l < kTile; l++) mult[l] = 1.0f;
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t t = 0; t * kTile < a.keys; t++) {
      float *p = s + i * a.keys + t * kTile, *g = d + i * a.keys + t * kTile;
      const int64_t n = std::min<int64_t>(kTile, a.keys - t * kTile);
      if (a.drop) drop_tile(a.key, t, (a.first + i) * a.heads + a.head, mult);
      for (int64_t c = 0; c < n; c++) {
        const float prob = vexp(p[c] - lse[i]);
        g[c] = prob * (g[c] * mult[c] - delta[i]);
        p[c] = prob * mult[c];
      }
    }
  }
}

struct Shape {
  std::vector<int64_t> queries, keys;  // where samples start, S+1 each
  int64_t heads, width, head_dim;
  double scale;
};

void check_rows(const at::Tensor& t, int64_t width, const std::vector<int64_t>& offsets, const char* name) {
  TORCH_CHECK(t.dim() == 2 && t.size(1) == width && t.scalar_type() == at::kFloat && t.is_cpu(), "attention: ", name, " of shape ",
              t.sizes(), " where the width is ", width);
  TORCH_CHECK(offsets.front() == 0 && offsets.back() == t.size(0), "attention: offsets do not cover the ", t.size(0), " ", name);
  for (size_t i = 1; i < offsets.size(); i++) TORCH_CHECK(offsets[i - 1] <= offsets[i], "attention: offsets of ", name, " fall at sample ", i - 1);
}

template <class F>
void for_each_head(const Shape& s, F f) {
  const int64_t samples = s.keys.size() - 1;
  at::parallel_for(0, samples * s.heads, 1, [&](int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i++) {
      const int64_t sample = i / s.heads, head = i % s.heads;
      const int64_t q = s.queries[sample], k = s.keys[sample];
      f(q, s.queries[sample + 1] - q, k, s.keys[sample + 1] - k, head);
    }
  });
}

// A thread's buffer for scores, kept between calls.
float* scratch(size_t n, int which) {
  static thread_local std::vector<float> buffers[2];
  if (buffers[which].size() < n) buffers[which].resize(n);
  return buffers[which].data();
}

struct Attention : Function<Attention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Shape& s,
                            bool drop, const DropKey& key) {
    at::AutoDispatchBelowADInplaceOrView below;
    at::Tensor out = at::empty_like(q), lse = at::empty({s.heads, q.size(0)}, q.options());
    const float *qp = q.const_data_ptr<float>(), *kp = k.const_data_ptr<float>(), *vp = v.const_data_ptr<float>();
    float *op = out.mutable_data_ptr<float>(), *lp = lse.mutable_data_ptr<float>();
    const int64_t n = q.size(0), w = s.width, d = s.head_dim;
    for_each_head(s, [&](int64_t q0, int64_t nq, int64_t k0, int64_t nk, int64_t head) {
      float* p = scratch(std::min(kBlock, nq) * nk, 0);
      const int64_t keys = k0 * w + head * d;
      for (int64_t b = q0; b < q0 + nq; b += kBlock) {
        const int64_t rows = std::min(kBlock, q0 + nq - b), at = b * w + head * d;
        gemm(false, true, rows, nk, d, s.scale, qp + at, w, kp + keys, w, 0, p, nk);
        softmax_rows({nk, s.heads, b, head, drop, key}, p, rows, lp + head * n + b);
        gemm(false, false, rows, d, nk, 1, p, nk, vp + keys, w, 0, op + at, w);
      }
    });
    ctx->save_for_backward({q, k, v, out, lse});
    ctx->saved_data["queries"] = c10::List<int64_t>(at::ArrayRef<int64_t>(s.queries));
    ctx->saved_data["keys"] = c10::List<int64_t>(at::ArrayRef<int64_t>(s.keys));
    ctx->saved_data["heads"] = s.heads;
    ctx->saved_data["softmax_scale"] = s.scale;
    ctx->saved_data["drop"] = drop;
    save_key(ctx, key);
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &lse = saved[4];
    const at::Tensor go = grads[0].contiguous();
    const DropKey key = load_key(ctx);
    const bool drop = ctx->saved_data["drop"].toBool();
    Shape s;
    s.queries = ctx->saved_data["queries"].toIntVector();
    s.keys = ctx->saved_data["keys"].toIntVector();
    s.heads = ctx->saved_data["heads"].toInt();
    s.width = q.size(1);
    s.head_dim = s.width / s.heads;
    s.scale = ctx->saved_data["softmax_scale"].toDouble();
    at::Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(k);
    const float *qp = q.const_data_ptr<float>(), *kp = k.const_data_ptr<float>(), *vp = v.const_data_ptr<float>();
    const float *op = out.const_data_ptr<float>(), *gp = go.const_data_ptr<float>(), *lp = lse.const_data_ptr<float>();
    float *dqp = dq.mutable_data_ptr<float>(), *dkp = dk.mutable_data_ptr<float>(), *dvp = dv.mutable_data_ptr<float>();
    const int64_t n = q.size(0), w = s.width, d = s.head_dim;
    for_each_head(s, [&](int64_t q0, int64_t nq, int64_t k0, int64_t nk, int64_t head) {
      float *p = scratch(std::min(kBlock, nq) * nk, 0), *g = scratch(std::min(kBlock, nq) * nk, 1);
      float delta[kBlock];
      const int64_t keys = k0 * w + head * d;
      if (nq == 0) {
        for (int64_t i = 0; i < nk; i++) {
          std::fill_n(dkp + keys + i * w, d, 0.0f);
          std::fill_n(dvp + keys + i * w, d, 0.0f);
        }
      }
      for (int64_t b = q0; b < q0 + nq; b += kBlock) {
        const int64_t rows = std::min(kBlock, q0 + nq - b), at = b * w + head * d;
        const float beta = b == q0 ? 0 : 1;
        for (int64_t i = 0; i < rows; i++) {
          delta[i] = 0;
          for (int64_t c = 0; c < d; c++) delta[i] += gp[at + i * w + c] * op[at + i * w + c];
        }
        gemm(false, true, rows, nk, d, s.scale, qp + at, w, kp + keys, w, 0, p, nk);
        gemm(false, true, rows, nk, d, 1, gp + at, w, vp + keys, w, 0, g, nk);
        softmax_grad_rows({nk, s.heads, b, head, drop, key}, p, g, rows, lp + head * n + b, delta);
        gemm(true, false, nk, d, rows, 1, p, nk, gp + at, w, beta, dvp + keys, w);
        gemm(false, false, rows, d, nk, s.scale, g, nk, kp + keys, w, 0, dqp + at, w);
        gemm(true, false, nk, d, rows, s.scale, g, nk, qp + at, w, beta, dkp + keys, w);
      }
    });
    return {dq, dk, dv, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace
}  // namespace ddprun


using namespace ddprun;

extern "C" {

dt_error dt_attention(dt_tensor q, dt_tensor k, dt_tensor v, const int32_t* queries, const int32_t* keys, int nsamples,
                      int heads, double scale, double p, dt_key key, dt_tensor* out) {
  return guard([&] {
    const at::Tensor &qt = T(q), &kt = T(k), &vt = T(v);
    const int64_t width = qt.dim() == 2 ? qt.size(1) : 0;
    TORCH_CHECK(heads > 0 && width > 0 && width % heads == 0, "attention: ", heads, " heads do not divide queries of shape ", qt.sizes());
    Shape s{{queries, queries + nsamples + 1}, {keys, keys + nsamples + 1}, heads, width, width / heads, scale};
    check_rows(qt, width, s.queries, "queries");
    check_rows(kt, width, s.keys, "keys");
    check_rows(vt, width, s.keys, "values");
    for (int i = 0; i < nsamples; i++)
      TORCH_CHECK(s.queries[i] == s.queries[i + 1] || s.keys[i] < s.keys[i + 1], "attention: sample ", i, " has queries but no keys");
    *out = give(Attention::apply(qt.contiguous(), kt.contiguous(), vt.contiguous(), s, p > 0, drop_key(key, p)));
  });
}

}  // extern "C"
