// Linear layers, embeddings, dropout and LayerNorm whose backward passes add parameters' gradients in place and draw dropout
// again instead of keeping masks.
#pragma once
#include "grad.h"
#include "philox.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <vector>


namespace ddprun {
namespace {

void want_rows(const at::Tensor& x, const char* name) {
  TORCH_CHECK(x.dim() == 2 && x.is_cpu() && x.scalar_type() == at::kFloat, name, ": want a float matrix on the CPU, got ",
              x.scalar_type(), " of shape ", x.sizes());
}

// ---- linear: y = x w^T + b; x [N, in], w [out, in], b [out] or none

struct Linear : Function<Linear> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& w, const MaybeTensor& b) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({x, w, or_undefined(b)});
    return product(x, w, b);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1], &b = saved[2];
    const at::Tensor dy = grads[0].contiguous();
    at::Tensor dx;
    if (ctx->needs_input_grad(0)) dx = product(dy, w);
    Sink dw(w), db(b);
    if (dw) add_product(dw.target, dy.t(), x);
    if (db) db.target.add_(dy.sum(0, false, db.target.scalar_type()));
    return {dx, dw.result(), db.result()};
  }
};

// ---- linear of gelu: y = gelu(x) w^T + b; only x is kept for backward, which computes gelu(x) again

struct GeluLinear : Function<GeluLinear> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& w, const MaybeTensor& b, bool tanh) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({x, w, or_undefined(b)});
    ctx->saved_data["tanh"] = tanh;
    return product(at::gelu(x, tanh ? "tanh" : "none"), w, b);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1], &b = saved[2];
    const char* approximate = ctx->saved_data["tanh"].toBool() ? "tanh" : "none";
    const at::Tensor dy = grads[0].contiguous();
    Sink dw(w), db(b);
    if (dw) add_product(dw.target, dy.t(), at::gelu(x, approximate));
    if (db) db.target.add_(dy.sum(0, false, db.target.scalar_type()));
    at::Tensor dx;
    if (ctx->needs_input_grad(0)) dx = at::gelu_backward(product(dy, w).to(x.scalar_type()), x, approximate);
    return {dx, dw.result(), db.result(), at::Tensor()};
  }
};

// ---- embeddings: sums of rows; the gradient is added row by row

// Rows of the id skip (a table's padding_idx) get no gradient.
void add_rows(at::Tensor& target, const at::Tensor& ids, const at::Tensor& dy, int64_t skip) {
  const int64_t n = dy.size(0), h = dy.size(1);
  const int64_t* id = ids.const_data_ptr<int64_t>();
  const float* g = dy.const_data_ptr<float>();
  float* out = target.mutable_data_ptr<float>();
  // A thread owns a range of columns, so equal ids never meet and the order of additions is that of the rows.
  at::parallel_for(0, h, 64, [&](int64_t lo, int64_t hi) {
    for (int64_t i = 0; i < n; i++) {
      if (id[i] == skip) continue;
      float* row = out + id[i] * h;
      for (int64_t k = lo; k < hi; k++) row[k] += g[i * h + k];
    }
  });
}

void check_ids(const at::Tensor& ids, const at::Tensor& table, const char* what) {
  TORCH_CHECK(ids.dim() == 1 && ids.scalar_type() == at::kLong && ids.is_contiguous(), what, ": want a vector of int64");
  const int64_t* id = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); i++)
    TORCH_CHECK(id[i] >= 0 && id[i] < table.size(0), what, " ", id[i], " at ", i, " is outside the table of ", table.size(0), " rows");
}

// The sum of up to three tables' rows; a table that is not there is an undefined tensor.
struct EmbeddingSum : Function<EmbeddingSum> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& w0, const MaybeTensor& w1, const MaybeTensor& w2,
                            const at::Tensor& i0, const MaybeTensor& i1, const MaybeTensor& i2, int64_t padding_id) {
    at::AutoDispatchBelowADInplaceOrView below;
    const variable_list tables{w0, or_undefined(w1), or_undefined(w2)}, ids{i0, or_undefined(i1), or_undefined(i2)};
    ctx->save_for_backward({tables[0], tables[1], tables[2], ids[0], ids[1], ids[2]});
    ctx->saved_data["padding_id"] = padding_id;
    const int64_t n = i0.numel(), h = w0.size(1);
    at::Tensor y = at::empty({n, h}, w0.options());
    float* out = y.mutable_data_ptr<float>();
    for (int t = 0; t < 3; t++) {
      if (!tables[t].defined()) continue;
      TORCH_CHECK(ids[t].defined(), "embedding: a table without ids");
      want_rows(tables[t], "embedding");
      check_ids(ids[t], tables[t], "id");
      TORCH_CHECK(ids[t].numel() == n && tables[t].size(1) == h && tables[t].is_contiguous(),
                  "embedding: tables and ids of different sizes");
      const float* src = tables[t].const_data_ptr<float>();
      const int64_t* id = ids[t].const_data_ptr<int64_t>();
      at::parallel_for(0, n, 64, [&](int64_t lo, int64_t hi) {
        for (int64_t i = lo; i < hi; i++) {
          float* row = out + i * h;
          const float* add = src + id[i] * h;
          for (int64_t k = 0; k < h; k++) row[k] = t == 0 ? add[k] : row[k] + add[k];
        }
      });
    }
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    const auto saved = ctx->get_saved_variables();
    const at::Tensor dy = grads[0].contiguous();
    variable_list out(7);
    for (int t = 0; t < 3; t++) {
      Sink sink(saved[t]);
      if (sink) add_rows(sink.target, saved[3 + t], dy, t == 0 ? ctx->saved_data["padding_id"].toInt() : -1);
      out[t] = sink.result();
    }
    return out;
  }
};

// ---- dropout

DDPRUN_CLONES void drop_rows(const float* x, float* y, int64_t lo, int64_t hi, int64_t h, const DropKey& key) {
  float mult[kTile];
  for (int64_t i = lo; i < hi; i++) {
    for (int64_t t = 0; t * kTile < h; t++) {
      drop_tile(key, t, i, mult);
      const int64_t base = i * h + t * kTile, n = std::min<int64_t>(kTile, h - t * kTile);
      for (int64_t k = 0; k < n; k++) y[base + k] = x[base + k] * mult[k];
    }
  }
}

at::Tensor drop(const at::Tensor& x, const DropKey& key) {
  at::Tensor y = at::empty_like(x);
  const float* in = x.const_data_ptr<float>();
  float* out = y.mutable_data_ptr<float>();
  const int64_t h = x.size(1);
  at::parallel_for(0, x.size(0), 32, [&](int64_t lo, int64_t hi) { drop_rows(in, out, lo, hi, h, key); });
  return y;
}

struct Dropout : Function<Dropout> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const DropKey& key) {
    at::AutoDispatchBelowADInplaceOrView below;
    save_key(ctx, key);
    return drop(x.contiguous(), key);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    return {drop(grads[0].contiguous(), load_key(ctx)), at::Tensor()};
  }
};

// ---- y = LayerNorm(residual + dropout(x)); x, residual [N, H]; residual may be none; p = 0 drops nothing

// Sums with 16 partial sums, so that they vectorise and do not depend on the instruction set's width.
inline __attribute__((always_inline)) float sum16(const float* acc) {
  float s = 0;
  for (int k = 0; k < 16; k++) s += acc[k];
  return s;
}

struct NormArgs {
  const float *x, *residual, *w, *b;
  float *z, *y, *mean, *rstd;
  int64_t h;
  float eps;
  bool drop;
  DropKey key;
};

// Row i of z = residual + dropout(x), which it returns; A has x, residual or null, z, h, drop and key.
template <typename A>
inline __attribute__((always_inline)) const float* drop_add_row(const A& a, int64_t i) {
  float mult[kTile];
  const float* x = a.x + i * a.h;
  const float* r = a.residual ? a.residual + i * a.h : nullptr;
  float* z = a.z + i * a.h;
  for (int64_t t = 0; t * kTile < a.h; t++) {
    const int64_t base = t * kTile, n = std::min<int64_t>(kTile, a.h - base);
    if (a.drop) {
      drop_tile(a.key, t, i, mult);
      for (int64_t k = 0; k < n; k++) z[base + k] = x[base + k] * mult[k];
    } else {
      for (int64_t k = 0; k < n; k++) z[base + k] = x[base + k];
    }
    if (r) for (int64_t k = 0; k < n; k++) z[base + k] += r[base + k];
  }
  return z;
}

// Row i of dx = dz times what dropout multiplied x with; A has dz, dx, h and key.
template <typename A>
inline __attribute__((always_inline)) void drop_row(const A& a, int64_t i) {
  float mult[kTile];
  const float* dz = a.dz + i * a.h;
  float* dx = a.dx + i * a.h;
  for (int64_t t = 0; t * kTile < a.h; t++) {
    const int64_t base = t * kTile, n = std::min<int64_t>(kTile, a.h - base);
    drop_tile(a.key, t, i, mult);
    for (int64_t k = 0; k < n; k++) dx[base + k] = dz[base + k] * mult[k];
  }
}

DDPRUN_CLONES void norm_rows(const NormArgs& a, int64_t lo, int64_t hi) {
  for (int64_t i = lo; i < hi; i++) {
    const float* z = drop_add_row(a, i);
    const int64_t h16 = a.h / 16 * 16;
    float acc[16] = {0};
    for (int64_t k = 0; k < h16; k += 16) for (int l = 0; l < 16; l++) acc[l] += z[k + l];
    float sum = sum16(acc);
    for (int64_t k = h16; k < a.h; k++) sum += z[k];
    const float mean = sum / a.h;
    float sq[16] = {0};
    for (int64_t k = 0; k < h16; k += 16) for (int l = 0; l < 16; l++) { const float d = z[k + l] - mean; sq[l] += d * d; }
    float var = sum16(sq);
    for (int64_t k = h16; k < a.h; k++) var += (z[k] - mean) * (z[k] - mean);
    const float rstd = 1.0f / std::sqrt(var / a.h + a.eps);
    a.mean[i] = mean;
    a.rstd[i] = rstd;
    float* y = a.y + i * a.h;
    for (int64_t k = 0; k < a.h; k++) y[k] = (z[k] - mean) * rstd * a.w[k] + a.b[k];
  }
}

struct NormGradArgs {
  const float *dy, *z, *w, *mean, *rstd;
  float *dz, *dx;  // dx: null when nothing was dropped (dx is dz)
  int64_t h;
  DropKey key;
};

// Rows lo..hi; dw and db: this segment's partial sums.
DDPRUN_CLONES void norm_grad_rows(const NormGradArgs& a, int64_t lo, int64_t hi, float* dw, float* db) {
  const int64_t h16 = a.h / 16 * 16;
  for (int64_t i = lo; i < hi; i++) {
    const float *dy = a.dy + i * a.h, *z = a.z + i * a.h;
    const float mean = a.mean[i], rstd = a.rstd[i];
    float s1[16] = {0}, s2[16] = {0};
    for (int64_t k = 0; k < h16; k += 16)
      for (int l = 0; l < 16; l++) {
        const float g = dy[k + l] * a.w[k + l], xhat = (z[k + l] - mean) * rstd;
        s1[l] += g;
        s2[l] += g * xhat;
      }
    float m1 = sum16(s1), m2 = sum16(s2);
    for (int64_t k = h16; k < a.h; k++) {
      const float g = dy[k] * a.w[k];
      m1 += g;
      m2 += g * (z[k] - mean) * rstd;
    }
    m1 /= a.h;
    m2 /= a.h;
    float* dz = a.dz + i * a.h;
    for (int64_t k = 0; k < a.h; k++) {
      const float xhat = (z[k] - mean) * rstd;
      dz[k] = (dy[k] * a.w[k] - m1 - xhat * m2) * rstd;
      dw[k] += dy[k] * xhat;
      db[k] += dy[k];
    }
    if (a.dx) drop_row(a, i);
  }
}

struct DropoutAddLayerNorm : Function<DropoutAddLayerNorm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const MaybeTensor& maybe_residual, const at::Tensor& w,
                            const at::Tensor& b, double eps, bool dropped, const DropKey& key) {
    at::AutoDispatchBelowADInplaceOrView below;
    want_rows(x, "layer norm");
    const at::Tensor residual = or_undefined(maybe_residual);
    const int64_t n = x.size(0), h = x.size(1);
    TORCH_CHECK(w.numel() == h && b.numel() == h, "layer norm: weights of ", w.numel(), " for rows of ", h);
    TORCH_CHECK(!residual.defined() || residual.sizes() == x.sizes(), "layer norm: residual ", residual.sizes(), " for x ", x.sizes());
    const at::Tensor xc = x.contiguous(), rc = residual.defined() ? residual.contiguous() : residual;
    at::Tensor z = at::empty_like(xc), y = at::empty_like(xc), mean = at::empty({n}, xc.options()), rstd = at::empty({n}, xc.options());
    const NormArgs a{xc.const_data_ptr<float>(), rc.defined() ? rc.const_data_ptr<float>() : nullptr, w.const_data_ptr<float>(),
                     b.const_data_ptr<float>(), z.mutable_data_ptr<float>(), y.mutable_data_ptr<float>(),
                     mean.mutable_data_ptr<float>(), rstd.mutable_data_ptr<float>(), h, static_cast<float>(eps), dropped, key};
    at::parallel_for(0, n, 16, [&](int64_t lo, int64_t hi) { norm_rows(a, lo, hi); });
    ctx->save_for_backward({z, mean, rstd, w, b});
    ctx->saved_data["dropped"] = dropped;
    ctx->saved_data["residual"] = residual.defined();
    save_key(ctx, key);
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    constexpr int64_t kSegment = 32;  // rows whose contributions to dw and db are summed before the segments are
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &z = saved[0], &w = saved[3], &b = saved[4];
    const at::Tensor dy = grads[0].contiguous();
    const bool dropped = ctx->saved_data["dropped"].toBool();
    const int64_t n = z.size(0), h = z.size(1), segments = (n + kSegment - 1) / kSegment;
    at::Tensor dz = at::empty_like(z), dx = dropped ? at::empty_like(z) : dz;
    at::Tensor partial = at::zeros({2, segments, h}, z.options());
    float *pw = partial.mutable_data_ptr<float>(), *pb = pw + segments * h;
    const NormGradArgs a{dy.const_data_ptr<float>(), z.const_data_ptr<float>(), w.const_data_ptr<float>(), saved[1].const_data_ptr<float>(),
                         saved[2].const_data_ptr<float>(), dz.mutable_data_ptr<float>(), dropped ? dx.mutable_data_ptr<float>() : nullptr,
                         h, load_key(ctx)};
    at::parallel_for(0, segments, 1, [&](int64_t lo, int64_t hi) {
      for (int64_t s = lo; s < hi; s++) norm_grad_rows(a, s * kSegment, std::min(n, (s + 1) * kSegment), pw + s * h, pb + s * h);
    });
    Sink dw(w), db(b);
    if (dw) dw.target.add_(partial[0].sum(0));
    if (db) db.target.add_(partial[1].sum(0));
    const bool residual = ctx->saved_data["residual"].toBool();
    return {dx, residual ? dz : at::Tensor(), dw.result(), db.result(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace
}  // namespace ddprun


using namespace ddprun;

extern "C" {

dt_error dt_linear(dt_tensor x, dt_tensor w, dt_tensor b, dt_tensor* out) {
  return guard([&] { *out = give(Linear::apply(T(x), T(w), maybe(b))); });
}

dt_error dt_gelu_linear(dt_tensor x, dt_tensor w, dt_tensor b, int tanh, dt_tensor* out) {
  return guard([&] { *out = give(GeluLinear::apply(T(x), T(w), maybe(b), tanh != 0)); });
}

dt_error dt_embedding_sum(dt_tensor words, dt_tensor positions, dt_tensor types, dt_tensor ids, dt_tensor position_ids,
                          dt_tensor type_ids, int64_t padding_id, dt_tensor* out) {
  return guard([&] {
    if (composed(T(words))) {
      *out = give(embedding_sum(T(words), maybe(positions), maybe(types), T(ids), maybe(position_ids), maybe(type_ids), padding_id));
      return;
    }
    *out = give(EmbeddingSum::apply(T(words), maybe(positions), maybe(types), T(ids), maybe(position_ids), maybe(type_ids), padding_id));
  });
}

dt_error dt_dropout(dt_tensor x, double p, dt_key key, dt_tensor* out) {
  return guard([&] {
    if (composed(T(x))) {
      *out = give(dropped(T(x), p, key));
      return;
    }
    want_rows(T(x), "dropout");
    *out = give(Dropout::apply(T(x), drop_key(key, p)));
  });
}

dt_error dt_dropout_add_layer_norm(dt_tensor x, dt_tensor residual, dt_tensor w, dt_tensor b, double eps, double p,
                                   dt_key key, dt_tensor* out) {
  return guard([&] {
    *out = give(composed(T(x)) ? layer_norm(T(x), maybe(residual), T(w), T(b), eps, p, key)
                               : DropoutAddLayerNorm::apply(T(x), maybe(residual), T(w), T(b), eps, p > 0, drop_key(key, p)));
  });
}

void dt_philox_block(uint64_t seed, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t* out4) {
  DropKey key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), c2, c3, 0, 1};
  uint32_t tile[kTile];
  philox_tile(key, c0 / 16, c1, tile);
  for (int w = 0; w < 4; w++) out4[w] = tile[16 * w + c0 % 16];
}

}  // extern "C"
