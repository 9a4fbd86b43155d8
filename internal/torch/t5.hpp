// What T5 has besides linear layers and attention: RMS norms and the middle of its feed-forward layers, fused with the dropout around them.
#pragma once
#include "fused.hpp"
#include "vexp.h"

namespace ddprun {
namespace {

// ---- z = residual + dropout(x), y = w z / rms(z); x, residual [N, H]; residual may be none; p = 0 drops nothing

struct RMSArgs {
  const float *x, *residual, *w;
  float *z, *y, *rstd;
  int64_t h;
  float eps;
  bool drop;
  DropKey key;
};

DDPRUN_CLONES void rms_rows(const RMSArgs& a, int64_t lo, int64_t hi) {
  for (int64_t i = lo; i < hi; i++) {
    const float* z = drop_add_row(a, i);
    const int64_t h16 = a.h / 16 * 16;
    float sq[16] = {0};
    for (int64_t k = 0; k < h16; k += 16) for (int l = 0; l < 16; l++) sq[l] += z[k + l] * z[k + l];
    float mean = sum16(sq);
    for (int64_t k = h16; k < a.h; k++) mean += z[k] * z[k];
    const float rstd = 1.0f / std::sqrt(mean / a.h + a.eps);
    a.rstd[i] = rstd;
    float* y = a.y + i * a.h;
    for (int64_t k = 0; k < a.h; k++) y[k] = z[k] * rstd * a.w[k];
  }
}

struct RMSGradArgs {
  const float *dy, *dsum, *z, *w, *rstd;  // dy, dsum: the gradients of y and of z from elsewhere, or null
  float *dz, *dx;                         // dx: null when nothing was dropped (dx is dz)
  int64_t h;
  DropKey key;
};

// Rows lo..hi; dw: this segment's partial sums.
DDPRUN_CLONES void rms_grad_rows(const RMSGradArgs& a, int64_t lo, int64_t hi, float* dw) {
  const int64_t h16 = a.h / 16 * 16;
  for (int64_t i = lo; i < hi; i++) {
    const float *z = a.z + i * a.h, *dsum = a.dsum ? a.dsum + i * a.h : nullptr;
    float* dz = a.dz + i * a.h;
    if (a.dy) {
      const float* dy = a.dy + i * a.h;
      const float rstd = a.rstd[i];
      float s[16] = {0};
      for (int64_t k = 0; k < h16; k += 16) for (int l = 0; l < 16; l++) s[l] += dy[k + l] * a.w[k + l] * z[k + l];
      float m = sum16(s);
      for (int64_t k = h16; k < a.h; k++) m += dy[k] * a.w[k] * z[k];
      m *= rstd * rstd / a.h;
      for (int64_t k = 0; k < a.h; k++) {
        dz[k] = (dy[k] * a.w[k] - z[k] * m) * rstd;
        dw[k] += dy[k] * z[k] * rstd;
      }
      if (dsum) for (int64_t k = 0; k < a.h; k++) dz[k] += dsum[k];
    } else {
      for (int64_t k = 0; k < a.h; k++) dz[k] = dsum[k];
    }
    if (a.dx) drop_row(a, i);
  }
}

struct DropoutAddRMSNorm : Function<DropoutAddRMSNorm> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const MaybeTensor& maybe_residual, const at::Tensor& w,
                               double eps, bool dropped, const DropKey& key) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->set_materialize_grads(false);
    want_rows(x, "rms norm");
    const at::Tensor residual = or_undefined(maybe_residual);
    const int64_t n = x.size(0), h = x.size(1);
    TORCH_CHECK(w.numel() == h, "rms norm: weights of ", w.numel(), " for rows of ", h);
    TORCH_CHECK(!residual.defined() || residual.sizes() == x.sizes(), "rms norm: residual ", residual.sizes(), " for x ", x.sizes());
    const at::Tensor xc = x.contiguous(), rc = residual.defined() ? residual.contiguous() : residual;
    at::Tensor z = at::empty_like(xc), y = at::empty_like(xc), rstd = at::empty({n}, xc.options());
    const RMSArgs a{xc.const_data_ptr<float>(), rc.defined() ? rc.const_data_ptr<float>() : nullptr, w.const_data_ptr<float>(),
                    z.mutable_data_ptr<float>(), y.mutable_data_ptr<float>(), rstd.mutable_data_ptr<float>(), h,
                    static_cast<float>(eps), dropped, key};
    at::parallel_for(0, n, 16, [&](int64_t lo, int64_t hi) { rms_rows(a, lo, hi); });
    ctx->save_for_backward({z, rstd, w});
    ctx->saved_data["dropped"] = dropped;
    ctx->saved_data["residual"] = residual.defined();
    save_key(ctx, key);
    return {z, y};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    constexpr int64_t kSegment = 32;  // rows whose contributions to dw are summed before the segments are
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &z = saved[0], &w = saved[2];
    if (!grads[0].defined() && !grads[1].defined()) return variable_list(6);
    const at::Tensor dsum = grads[0].defined() ? grads[0].contiguous() : at::Tensor();
    const at::Tensor dy = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    const bool dropped = ctx->saved_data["dropped"].toBool();
    const int64_t n = z.size(0), h = z.size(1), segments = (n + kSegment - 1) / kSegment;
    at::Tensor dz = at::empty_like(z), dx = dropped ? at::empty_like(z) : dz, partial = at::zeros({segments, h}, z.options());
    float* pw = partial.mutable_data_ptr<float>();
    const RMSGradArgs a{dy.defined() ? dy.const_data_ptr<float>() : nullptr, dsum.defined() ? dsum.const_data_ptr<float>() : nullptr,
                        z.const_data_ptr<float>(), w.const_data_ptr<float>(), saved[1].const_data_ptr<float>(),
                        dz.mutable_data_ptr<float>(), dropped ? dx.mutable_data_ptr<float>() : nullptr, h, load_key(ctx)};
    at::parallel_for(0, segments, 1, [&](int64_t lo, int64_t hi) {
      for (int64_t s = lo; s < hi; s++) rms_grad_rows(a, s * kSegment, std::min(n, (s + 1) * kSegment), pw + s * h);
    });
    Sink dw(w);
    if (dw) dw.target.add_(partial.sum(0));
    return {dx, ctx->saved_data["residual"].toBool() ? dz : at::Tensor(), dw.result(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// ---- y = dropout(activation(x) * gate); x, gate [N, I]; gate may be none. Only x and gate are kept.

enum Activation { kRelu, kGelu, kGeluTanh, kSilu };  // as torch.Activation in Go

// f: the activation at x, df: its derivative.
template <int kind>
inline __attribute__((always_inline)) void activate(float x, float& f, float& df) {
  if constexpr (kind == kRelu) {
    f = x > 0 || x != x ? x : 0.0f;
    df = x > 0 || x != x ? 1.0f : 0.0f;
  } else if constexpr (kind == kGelu) {
    const float phi = 0.5f * (1.0f + std::erf(x * 0.70710678f));
    f = x * phi;
    df = phi + x * 0.39894228f * std::exp(-0.5f * x * x);
  } else if constexpr (kind == kGeluTanh) {
    const float u = 0.79788456f * (x + 0.044715f * x * x * x);
    const float e = vexp(-2.0f * std::abs(u)), size = (1.0f - e) / (1.0f + e), tanh = u < 0 ? -size : size;
    f = 0.5f * x * (1.0f + tanh);
    df = 0.5f * (1.0f + tanh) + 0.5f * x * (1.0f - tanh * tanh) * 0.79788456f * (1.0f + 0.134145f * x * x);
  } else {
    const float e = vexp(-std::abs(x)), share = (x < 0 ? e : 1.0f) / (1.0f + e);
    f = x * share;
    df = share * (1.0f + x * (1.0f - share));
  }
}

struct ActivationArgs {
  const float *x, *gate, *dy;  // gate: null for none
  float *y, *dx, *dgate;
  int64_t h;
  bool drop;
  DropKey key;
};

template <int kind>
inline __attribute__((always_inline)) void activation_rows(const ActivationArgs& a, int64_t lo, int64_t hi) {
  float mult[kTile];
  for (int l = 0; l < kTile; l++) mult[l] = 1.0f;
  for (int64_t i = lo; i < hi; i++) {
    for (int64_t t = 0; t * kTile < a.h; t++) {
      const int64_t base = i * a.h + t * kTile, n = std::min<int64_t>(kTile, a.h - t * kTile);
      const float *x = a.x + base, *gate = a.gate ? a.gate + base : nullptr;
      if (a.drop) drop_tile(a.key, t, i, mult);
      float f, df;
      if (a.dy) {
        const float* dy = a.dy + base;
        float *dx = a.dx + base, *dgate = a.dgate ? a.dgate + base : nullptr;
        if (gate) {
          for (int64_t k = 0; k < n; k++) {
            activate<kind>(x[k], f, df);
            const float d = dy[k] * mult[k];
            dx[k] = d * gate[k] * df;
            dgate[k] = d * f;
          }
        } else {
          for (int64_t k = 0; k < n; k++) {
            activate<kind>(x[k], f, df);
            dx[k] = dy[k] * mult[k] * df;
          }
        }
      } else {
        float* y = a.y + base;
        for (int64_t k = 0; k < n; k++) {
          activate<kind>(x[k], f, df);
          y[k] = f * mult[k];
        }
        if (gate) for (int64_t k = 0; k < n; k++) y[k] *= gate[k];
      }
    }
  }
}

DDPRUN_CLONES void relu_rows(const ActivationArgs& a, int64_t lo, int64_t hi) { activation_rows<kRelu>(a, lo, hi); }
DDPRUN_CLONES void gelu_rows(const ActivationArgs& a, int64_t lo, int64_t hi) { activation_rows<kGelu>(a, lo, hi); }
DDPRUN_CLONES void gelu_tanh_rows(const ActivationArgs& a, int64_t lo, int64_t hi) { activation_rows<kGeluTanh>(a, lo, hi); }
DDPRUN_CLONES void silu_rows(const ActivationArgs& a, int64_t lo, int64_t hi) { activation_rows<kSilu>(a, lo, hi); }

void activate_all(const ActivationArgs& a, int64_t n, int64_t kind) {
  const auto rows = kind == kRelu ? relu_rows : kind == kGelu ? gelu_rows : kind == kGeluTanh ? gelu_tanh_rows : silu_rows;
  at::parallel_for(0, n, 8, [&](int64_t lo, int64_t hi) { rows(a, lo, hi); });
}

struct DropoutActivation : Function<DropoutActivation> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const MaybeTensor& maybe_gate, int64_t kind, bool dropped,
                            const DropKey& key) {
    at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor xc = x.contiguous(), gate = maybe_gate ? maybe_gate->contiguous() : at::Tensor();
    at::Tensor y = at::empty_like(xc);
    const ActivationArgs a{xc.const_data_ptr<float>(), gate.defined() ? gate.const_data_ptr<float>() : nullptr, nullptr,
                           y.mutable_data_ptr<float>(), nullptr, nullptr, x.size(1), dropped, key};
    activate_all(a, x.size(0), kind);
    ctx->save_for_backward({xc, gate});
    ctx->saved_data["kind"] = kind;
    ctx->saved_data["dropped"] = dropped;
    save_key(ctx, key);
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &gate = saved[1];
    const at::Tensor dy = grads[0].contiguous();
    at::Tensor dx = at::empty_like(x), dgate = gate.defined() ? at::empty_like(x) : at::Tensor();
    const ActivationArgs a{x.const_data_ptr<float>(), gate.defined() ? gate.const_data_ptr<float>() : nullptr, dy.const_data_ptr<float>(),
                           nullptr, dx.mutable_data_ptr<float>(), gate.defined() ? dgate.mutable_data_ptr<float>() : nullptr, x.size(1),
                           ctx->saved_data["dropped"].toBool(), load_key(ctx)};
    activate_all(a, x.size(0), ctx->saved_data["kind"].toInt());
    return {dx, dgate, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace
}  // namespace ddprun


extern "C" {

dt_error dt_dropout_add_rms_norm(dt_tensor x, dt_tensor residual, dt_tensor w, double eps, double p, dt_key key, dt_tensor* sum,
                                 dt_tensor* out) {
  return guard([&] {
    if (composed(T(x))) {
      const at::Tensor z = residual_sum(T(x), maybe(residual), p, key);
      *sum = give(z);
      *out = give(at::rms_norm(z, {z.size(1)}, T(w), eps));
      return;
    }
    auto both = DropoutAddRMSNorm::apply(T(x), maybe(residual), T(w), eps, p > 0, drop_key(key, p));
    *sum = give(both[0]);
    *out = give(both[1]);
  });
}

dt_error dt_dropout_activation(dt_tensor x, dt_tensor gate, int activation, double p, dt_key key, dt_tensor* out) {
  return guard([&] {
    if (composed(T(x))) {
      *out = give(ddprun::activation(T(x), maybe(gate), activation, p, key));
      return;
    }
    want_rows(T(x), "activation");
    TORCH_CHECK(!gate || (T(gate).sizes() == T(x).sizes() && T(gate).scalar_type() == at::kFloat), "activation: a gate of shape ",
                gate ? T(gate).sizes() : T(x).sizes(), " for ", T(x).sizes());
    *out = give(DropoutActivation::apply(T(x), maybe(gate), activation, p > 0, drop_key(key, p)));
  });
}

}  // extern "C"
