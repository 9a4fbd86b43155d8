// Attention over samples that lie back to back without padding; a sample may have fewer queries than keys. Of the [Q, K] probabilities only their row sums' logarithms
// are kept; the backward pass computes them again, block by block, in a buffer that stays in the cache. T5's relative positions (Raffel et al., 2020,
// 2.1) and the decoder's mask are applied there too, so that neither exists for all pairs of tokens.
#pragma once
#include "gemm.h"
#include "grad.h"
#include "vexp.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
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

// A thread's buffers for scores (0, 1) and for distances (2, 3), kept between calls.
float* scratch(size_t n, int which) {
  static thread_local std::vector<float> buffers[4];
  if (buffers[which].size() < n) buffers[which].resize(n);
  return buffers[which].data();
}

struct Shape {
  std::vector<int64_t> queries, keys;  // where samples start, S+1 each
  int64_t heads, width, head_dim;
  double scale;
  bool causal;           // a query sees no key after itself
  int64_t max_distance;  // of relative positions; 0: no bias
};

// The row of T5's table for a key that lies `distance` tokens after its query: one for each distance up to half of the buckets (of those of a
// direction, where keys may follow), then logarithmically wider ones up to max_distance. In float, as transformers rounds it.
int64_t relative_bucket(int64_t distance, int64_t buckets, int64_t max_distance, bool causal) {
  int64_t first = 0;
  if (causal) {
    distance = distance < 0 ? -distance : 0;
  } else {
    buckets /= 2;
    if (distance > 0) first = buckets;
    distance = std::abs(distance);
  }
  const int64_t exact = buckets / 2;
  if (distance < exact) return first + distance;
  const float share = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact)));
  return first + std::min(buckets - 1, exact + static_cast<int64_t>(share * static_cast<float>(buckets - exact)));
}

// The buckets of all distances from -longest + 1 to longest - 1.
std::vector<int64_t> relative_buckets(const Shape& s, int64_t buckets) {
  int64_t longest = 1;
  for (size_t i = 1; i < s.keys.size(); i++) longest = std::max(longest, s.keys[i] - s.keys[i - 1]);
  std::vector<int64_t> out(2 * longest - 1);
  for (int64_t d = 1 - longest; d < longest; d++) out[d + longest - 1] = relative_bucket(d, buckets, s.max_distance, s.causal);
  return out;
}

// A head's bias for each distance.
struct Distances {
  const std::vector<int64_t>* buckets;  // of relative_buckets
  const float* table;                   // [buckets, heads]; null: no bias
  int64_t heads;

  int64_t longest() const { return static_cast<int64_t>(buckets->size() + 1) / 2; }
  // Returns where distance 0 lies; those that a sample of nk keys has lie around it.
  float* fill(int64_t nk, int64_t head) const {
    float* out = scratch(2 * longest(), 2) + longest() - 1;
    for (int64_t d = 1 - nk; d < nk; d++) out[d] = table[(*buckets)[d + longest() - 1] * heads + head];
    return out;
  }
};

// Adds to each row of scores its bias and hides the keys that its query may not see. first: the first row's place among the sample's keys.
DDPRUN_CLONES void place_rows(float* s, int64_t rows, int64_t keys, int64_t first, const float* bias, bool causal) {
  for (int64_t i = 0; i < rows; i++) {
    float* row = s + i * keys;
    if (bias) {
      const float* of = bias - (first + i);
      for (int64_t k = 0; k < keys; k++) row[k] += of[k];
    }
    if (causal) for (int64_t k = first + i + 1; k < keys; k++) row[k] = -INFINITY;
  }
}

// Adds the gradients of scores to those of their distances.
DDPRUN_CLONES void place_grad_rows(const float* g, int64_t rows, int64_t keys, int64_t first, float* bias) {
  for (int64_t i = 0; i < rows; i++) {
    float* of = bias - (first + i);
    for (int64_t k = 0; k < keys; k++) of[k] += g[i * keys + k];
  }
}

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
      f(sample, q, s.queries[sample + 1] - q, k, s.keys[sample + 1] - k, head);
    }
  });
}

struct Attention : Function<Attention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const MaybeTensor& maybe_table,
                            const Shape& s, bool drop, const DropKey& key) {
    at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor table = or_undefined(maybe_table);
    at::Tensor out = at::empty_like(q), lse = at::empty({s.heads, q.size(0)}, q.options());
    const float *qp = q.const_data_ptr<float>(), *kp = k.const_data_ptr<float>(), *vp = v.const_data_ptr<float>();
    float *op = out.mutable_data_ptr<float>(), *lp = lse.mutable_data_ptr<float>();
    const int64_t n = q.size(0), w = s.width, d = s.head_dim;
    const std::vector<int64_t> buckets = table.defined() ? relative_buckets(s, table.size(0)) : std::vector<int64_t>();
    const Distances distances{&buckets, table.defined() ? table.const_data_ptr<float>() : nullptr, s.heads};
    for_each_head(s, [&](int64_t, int64_t q0, int64_t nq, int64_t k0, int64_t nk, int64_t head) {
      float* p = scratch(std::min(kBlock, nq) * nk, 0);
      const float* bias = distances.table ? distances.fill(nk, head) : nullptr;
      const int64_t keys = k0 * w + head * d;
      for (int64_t b = q0; b < q0 + nq; b += kBlock) {
        const int64_t rows = std::min(kBlock, q0 + nq - b), at = b * w + head * d;
        const int64_t first = nk - nq + b - q0, seen = s.causal ? first + rows : nk;
        gemm(false, true, rows, seen, d, s.scale, qp + at, w, kp + keys, w, 0, p, seen);
        if (bias || s.causal) place_rows(p, rows, seen, first, bias, s.causal);
        softmax_rows({seen, s.heads, b, head, drop, key}, p, rows, lp + head * n + b);
        gemm(false, false, rows, d, seen, 1, p, seen, vp + keys, w, 0, op + at, w);
      }
    });
    ctx->save_for_backward({q, k, v, out, lse, table});
    ctx->saved_data["queries"] = c10::List<int64_t>(at::ArrayRef<int64_t>(s.queries));
    ctx->saved_data["keys"] = c10::List<int64_t>(at::ArrayRef<int64_t>(s.keys));
    ctx->saved_data["heads"] = s.heads;
    ctx->saved_data["softmax_scale"] = s.scale;
    ctx->saved_data["causal"] = s.causal;
    ctx->saved_data["max_distance"] = s.max_distance;
    ctx->saved_data["drop"] = drop;
    save_key(ctx, key);
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &lse = saved[4], &table = saved[5];
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
    s.causal = ctx->saved_data["causal"].toBool();
    s.max_distance = ctx->saved_data["max_distance"].toInt();
    at::Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(k);
    const float *qp = q.const_data_ptr<float>(), *kp = k.const_data_ptr<float>(), *vp = v.const_data_ptr<float>();
    const float *op = out.const_data_ptr<float>(), *gp = go.const_data_ptr<float>(), *lp = lse.const_data_ptr<float>();
    float *dqp = dq.mutable_data_ptr<float>(), *dkp = dk.mutable_data_ptr<float>(), *dvp = dv.mutable_data_ptr<float>();
    const int64_t n = q.size(0), w = s.width, d = s.head_dim;
    const std::vector<int64_t> buckets = table.defined() ? relative_buckets(s, table.size(0)) : std::vector<int64_t>();
    const Distances distances{&buckets, table.defined() ? table.const_data_ptr<float>() : nullptr, s.heads};
    Sink dtable(table);
    // Samples' parts of the table's gradient are added up in their order, whoever computed them.
    at::Tensor parts = dtable ? at::zeros({static_cast<int64_t>(s.keys.size()) - 1, table.size(0), s.heads}, q.options()) : at::Tensor();
    float* parts_p = dtable ? parts.mutable_data_ptr<float>() : nullptr;
    for_each_head(s, [&](int64_t sample, int64_t q0, int64_t nq, int64_t k0, int64_t nk, int64_t head) {
      float *p = scratch(std::min(kBlock, nq) * nk, 0), *g = scratch(std::min(kBlock, nq) * nk, 1), *dbias = nullptr;
      const float* bias = distances.table ? distances.fill(nk, head) : nullptr;
      if (dtable) {
        dbias = scratch(2 * distances.longest(), 3) + distances.longest() - 1;
        for (int64_t c = 1 - nk; c < nk; c++) dbias[c] = 0;
      }
      float delta[kBlock];
      const int64_t keys = k0 * w + head * d;
      if (nq == 0 || s.causal) {
        for (int64_t i = 0; i < nk; i++) {
          std::fill_n(dkp + keys + i * w, d, 0.0f);
          std::fill_n(dvp + keys + i * w, d, 0.0f);
        }
      }
      for (int64_t b = q0; b < q0 + nq; b += kBlock) {
        const int64_t rows = std::min(kBlock, q0 + nq - b), at = b * w + head * d;
        const int64_t first = nk - nq + b - q0, seen = s.causal ? first + rows : nk;
        const float beta = b == q0 && !s.causal ? 0 : 1;
        for (int64_t i = 0; i < rows; i++) {
          delta[i] = 0;
          for (int64_t c = 0; c < d; c++) delta[i] += gp[at + i * w + c] * op[at + i * w + c];
        }
        gemm(false, true, rows, seen, d, s.scale, qp + at, w, kp + keys, w, 0, p, seen);
        if (bias || s.causal) place_rows(p, rows, seen, first, bias, s.causal);
        gemm(false, true, rows, seen, d, 1, gp + at, w, vp + keys, w, 0, g, seen);
        softmax_grad_rows({seen, s.heads, b, head, drop, key}, p, g, rows, lp + head * n + b, delta);
        gemm(true, false, seen, d, rows, 1, p, seen, gp + at, w, beta, dvp + keys, w);
        gemm(false, false, rows, d, seen, s.scale, g, seen, kp + keys, w, 0, dqp + at, w);
        gemm(true, false, seen, d, rows, s.scale, g, seen, qp + at, w, beta, dkp + keys, w);
        if (dbias) place_grad_rows(g, rows, seen, first, dbias);
      }
      if (dbias && nq > 0) {
        float* part = parts_p + sample * table.numel() + head;
        for (int64_t c = 1 - nk; c < nk; c++) part[buckets[c + distances.longest() - 1] * s.heads] += dbias[c];
      }
    });
    if (dtable) dtable.target.add_(parts.sum(0));
    return {dq, dk, dv, dtable.result(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace
}  // namespace ddprun


using namespace ddprun;

extern "C" {

dt_error dt_attention(dt_tensor q, dt_tensor k, dt_tensor v, const int32_t* queries, const int32_t* keys, int nsamples,
                      int heads, double scale, dt_tensor table, int64_t max_distance, int causal, double p, dt_key key, dt_tensor* out) {
  return guard([&] {
    const at::Tensor &qt = T(q), &kt = T(k), &vt = T(v);
    const int64_t width = qt.dim() == 2 ? qt.size(1) : 0;
    TORCH_CHECK(heads > 0 && width > 0 && width % heads == 0, "attention: ", heads, " heads do not divide queries of shape ", qt.sizes());
    Shape s{{queries, queries + nsamples + 1}, {keys, keys + nsamples + 1}, heads, width, width / heads, scale, causal != 0, max_distance};
    check_rows(qt, width, s.queries, "queries");
    check_rows(kt, width, s.keys, "keys");
    check_rows(vt, width, s.keys, "values");
    for (int i = 0; i < nsamples; i++) {
      const int64_t nq = s.queries[i + 1] - s.queries[i], nk = s.keys[i + 1] - s.keys[i];
      TORCH_CHECK(nq == 0 || nk > 0, "attention: sample ", i, " has queries but no keys");
      TORCH_CHECK(nq <= nk || !(table || causal), "attention: sample ", i, " has ", nq, " queries, more than its ", nk, " keys");
    }
    if (table) {
      const at::Tensor& t = T(table);
      TORCH_CHECK(t.dim() == 2 && t.size(1) == heads && t.is_contiguous() && t.scalar_type() == at::kFloat && t.is_cpu(),
                  "attention: a table of relative positions of shape ", t.sizes(), " for ", heads, " heads");
      const int64_t exact = t.size(0) / (causal ? 2 : 4);
      TORCH_CHECK(exact > 0 && max_distance > exact, "attention: ", t.size(0), " relative positions up to a distance of ", max_distance);
    }
    *out = give(Attention::apply(qt.contiguous(), kt.contiguous(), vt.contiguous(), maybe(table), s, p > 0, drop_key(key, p)));
  });
}

int64_t dt_relative_bucket(int64_t distance, int64_t buckets, int64_t max_distance, int causal) {
  return relative_bucket(distance, buckets, max_distance, causal != 0);
}

}  // extern "C"
