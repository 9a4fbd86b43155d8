// Gradient checkpointing: what Go computes again in backward.
#pragma once
#include "shim_internal.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <cstdlib>
#include <vector>

// Runs the segment again on inputs, leaves that take gradients, and goes back from its results with their gradients, of which some may be undefined.
extern "C" char* ddprunRecompute(uintptr_t handle, void** inputs, int ninputs, void** grads, int ngrads);
extern "C" void ddprunForget(uintptr_t handle);

namespace ddprun {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The segment that Go holds, and for a moment the results of its first run.
struct Segment : torch::CustomClassHolder {
  explicit Segment(uintptr_t handle) : handle(handle) {}
  ~Segment() override { ddprunForget(handle); }
  uintptr_t handle;
  variable_list outputs;
};

struct Checkpoint : torch::autograd::Function<Checkpoint> {
  // The anchor takes gradients, so that the results do, even where no input does: the segment's parameters may.
  static variable_list forward(AutogradContext* ctx, at::TensorList inputs, const at::Tensor& anchor, const c10::intrusive_ptr<Segment>& segment) {
    (void)anchor;
    ctx->save_for_backward(inputs.vec());
    ctx->saved_data["segment"] = c10::IValue::make_capsule(segment);
    return std::move(segment->outputs);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    variable_list leaves;
    std::vector<void*> inputs, given;
    leaves.reserve(saved.size());
    for (const auto& x : saved) leaves.push_back(x.detach().set_requires_grad(x.requires_grad()));
    for (auto& x : leaves) inputs.push_back(&x);
    for (auto& g : grads) given.push_back(&g);
    auto segment = ctx->saved_data["segment"].toCapsule();
    {
      at::AutoGradMode on(true);
      char* error = ddprunRecompute(static_cast<Segment*>(segment.get())->handle, inputs.data(), static_cast<int>(inputs.size()), given.data(),
                                    static_cast<int>(given.size()));
      if (error != nullptr) {
        const std::string message(error);
        std::free(error);
        TORCH_CHECK(false, message);
      }
    }
    variable_list out;
    for (auto& x : leaves) out.push_back(x.grad());
    out.resize(out.size() + 2);  // of the anchor and the segment
    return out;
  }
};

}  // namespace
}  // namespace ddprun

using namespace ddprun;

extern "C" {

dt_error dt_checkpoint(dt_tensor* inputs, int ninputs, dt_tensor* outputs, int noutputs, uintptr_t handle, dt_tensor* out) {
  return guard([&] {
    auto segment = c10::make_intrusive<Segment>(handle);
    const variable_list given = listed(inputs, ninputs);
    segment->outputs = listed(outputs, noutputs);
    auto results = Checkpoint::apply(at::TensorList(given), at::empty({0}).set_requires_grad(true), segment);
    for (int i = 0; i < noutputs; i++) out[i] = give(std::move(results[i]));
  });
}

dt_error dt_backward_from(dt_tensor* outputs, dt_tensor* grads, int n) {
  return guard([&] {
    variable_list roots, given;
    for (int i = 0; i < n; i++) {
      const at::Tensor &y = T(outputs[i]), &g = T(grads[i]);
      if (!g.defined() || !y.requires_grad()) continue;
      roots.push_back(y);
      given.push_back(g);
    }
    if (!roots.empty()) torch::autograd::backward(roots, given);
  });
}

}  // extern "C"
