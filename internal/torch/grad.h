// Parameters' gradients are added in place to .grad, a view of the flat gradient buffer: no temporary, no second pass.
#pragma once
#include "device.hpp"
#include "philox.h"
#include "shim_internal.h"

#include <torch/csrc/autograd/custom_function.h>

#include <atomic>
#include <optional>

namespace ddprun {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Whether a backward function should compute w's gradient at all.
inline bool wants(const at::Tensor& w) { return w.defined() && w.requires_grad(); }

// Where to add w's gradient: its .grad, or a fresh zero tensor, which the caller then returns to autograd.
struct Sink {
  explicit Sink(const at::Tensor& w) {
    if (!wants(w)) return;
    in_place = w.grad().defined();
    target = in_place ? w.grad() : at::zeros_like(w);
  }
  at::Tensor result() const { return in_place ? at::Tensor() : target; }
  explicit operator bool() const { return target.defined(); }
  at::Tensor target;
  bool in_place = false;
};

// Whether matrices are multiplied in bfloat16, of the whole process.
inline std::atomic<bool>& bf16() {
  static std::atomic<bool> on{false};
  return on;
}

// What a matrix product reads: t as it is, or in bfloat16. The products of bfloat16 matrices are summed in float32 and rounded once.
inline at::Tensor factor(const at::Tensor& t) { return bf16() && t.defined() ? t.to(at::kBFloat16) : t; }

// The result of a product: float32, or on a GPU as it is, so that what lies between products moves half of the bytes.
inline at::Tensor widened(const at::Tensor& t) { return composed(t) ? t : t.to(at::kFloat); }

// x w^T + b and a b.
inline at::Tensor product(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& b) {
  if (!bf16()) return at::linear(x, w, b);
  return widened(at::linear(factor(x), factor(w), b ? std::optional<at::Tensor>(factor(*b)) : std::nullopt));
}
inline at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  return bf16() ? widened(factor(a).mm(factor(b))) : a.mm(b);
}

// target += scale a b
inline void add_product(at::Tensor& target, const at::Tensor& a, const at::Tensor& b, double scale = 1) {
  if (bf16()) {
    target.add_(factor(a).mm(factor(b)), scale);
  } else {
    target.addmm_(a, b, 1, scale);
  }
}

inline void save_key(AutogradContext* ctx, const DropKey& key) {
  ctx->saved_data["key"] = c10::List<int64_t>({key.k0, key.k1, key.c2, key.c3, key.threshold});
  ctx->saved_data["scale"] = static_cast<double>(key.scale);
}

inline DropKey load_key(AutogradContext* ctx) {
  const auto k = ctx->saved_data["key"].toIntVector();
  auto u = [&](int i) { return static_cast<uint32_t>(k[i]); };
  return {u(0), u(1), u(2), u(3), u(4), static_cast<float>(ctx->saved_data["scale"].toDouble())};
}

namespace {
// composed.hpp's layers, for tensors of a GPU.
at::Tensor embedding_sum(const at::Tensor& words, const MaybeTensor& positions, const MaybeTensor& types, const at::Tensor& ids, const MaybeTensor& position_ids,
                         const MaybeTensor& type_ids, int64_t padding_id);
at::Tensor dropped(const at::Tensor& x, double p, const dt_key& key);
at::Tensor residual_sum(const at::Tensor& x, const MaybeTensor& residual, double p, const dt_key& key);
at::Tensor layer_norm(const at::Tensor& x, const MaybeTensor& residual, const at::Tensor& w, const at::Tensor& b, double eps, double p, const dt_key& key);
at::Tensor activation(const at::Tensor& x, const MaybeTensor& gate, int kind, double p, const dt_key& key);
at::Tensor cross_entropy(const at::Tensor& x, const at::Tensor& w, const MaybeTensor& b, const at::Tensor& labels, double smoothing);
}  // namespace

}  // namespace ddprun
