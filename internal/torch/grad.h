// Parameters' gradients are added in place to .grad, a view of the flat gradient buffer: no temporary, no second pass.
#pragma once
#include "philox.h"
#include "shim_internal.h"

#include <torch/csrc/autograd/custom_function.h>

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

inline void save_key(AutogradContext* ctx, const DropKey& key) {
  ctx->saved_data["key"] = c10::List<int64_t>({key.k0, key.k1, key.c2, key.c3, key.threshold});
  ctx->saved_data["scale"] = static_cast<double>(key.scale);
}

inline DropKey load_key(AutogradContext* ctx) {
  const auto k = ctx->saved_data["key"].toIntVector();
  auto u = [&](int i) { return static_cast<uint32_t>(k[i]); };
  return {u(0), u(1), u(2), u(3), u(4), static_cast<float>(ctx->saved_data["scale"].toDouble())};
}

}  // namespace ddprun
