// Gradient hooks that count a bucket down in C++ and cross into Go once a bucket.
#pragma once
#include "shim_internal.h"

#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <atomic>
#include <memory>
#include <vector>

extern "C" void ddprunBucketReady(uintptr_t handle, int bucket);

namespace ddprun {
namespace {

struct Buckets {
  uintptr_t handle;
  std::vector<int> size;                 // parameters a bucket
  std::unique_ptr<std::atomic<int>[]> left;
  std::unique_ptr<std::atomic<char>[]> fired;  // a parameter
  std::atomic<bool> armed{false};
  std::atomic<int> late{-1};  // a parameter whose gradient came after its bucket had left
};

// Runs after a parameter's AccumulateGrad node, which the engine calls once a backward pass, after the parameter's last
// use, even if every use added its gradient in place and passed none on.
struct Hook : torch::autograd::FunctionPostHook {
  Hook(std::weak_ptr<Buckets> b, int param, int bucket) : buckets(std::move(b)), param(param), bucket(bucket) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& out,
                                            const torch::autograd::variable_list&) override {
    auto b = buckets.lock();
    if (!b || !b->armed.load(std::memory_order_acquire)) return out;
    if (b->fired[param].exchange(1)) {
      b->late.store(param);
    } else if (b->left[bucket].fetch_sub(1) == 1) {
      ddprunBucketReady(b->handle, bucket);
    }
    return out;
  }
  std::weak_ptr<Buckets> buckets;
  int param, bucket;
};

// What Go holds: the counters, and the AccumulateGrad nodes, which a parameter itself keeps only weakly.
struct Handle {
  std::shared_ptr<Buckets> buckets;
  std::vector<std::shared_ptr<torch::autograd::Node>> nodes;
};

}  // namespace
}  // namespace ddprun


using namespace ddprun;

extern "C" {

dt_error dt_buckets_new(dt_tensor* params, const int* bucket_of, int nparams, int nbuckets, uintptr_t handle,
                        dt_buckets* out) {
  return guard([&] {
    auto h = std::make_unique<Handle>();
    auto b = std::make_shared<Buckets>();
    b->handle = handle;
    b->size.assign(nbuckets, 0);
    b->left.reset(new std::atomic<int>[nbuckets]);
    b->fired.reset(new std::atomic<char>[nparams]);
    h->buckets = b;
    for (int i = 0; i < nparams; i++) {
      b->size.at(bucket_of[i])++;
      b->fired[i] = 0;
      auto node = torch::autograd::impl::grad_accumulator(T(params[i]));
      TORCH_CHECK(node, "parameter ", i, " does not require a gradient");
      node->add_post_hook(std::make_unique<Hook>(b, i, bucket_of[i]));
      h->nodes.push_back(std::move(node));
    }
    for (int k = 0; k < nbuckets; k++) b->left[k] = b->size[k];
    *out = h.release();
  });
}

// Before the last backward pass of a step: counts start anew and hooks count. Off: hooks do nothing.
void dt_buckets_arm(dt_buckets handle, int on) {
  auto& b = *static_cast<Handle*>(handle)->buckets;
  if (on) {
    for (size_t k = 0; k < b.size.size(); k++) b.left[k] = b.size[k];
    const size_t n = static_cast<Handle*>(handle)->nodes.size();
    for (size_t i = 0; i < n; i++) b.fired[i] = 0;
    b.late = -1;
  }
  b.armed.store(on != 0, std::memory_order_release);
}

int dt_buckets_late(dt_buckets handle) { return static_cast<Handle*>(handle)->buckets->late; }

void dt_buckets_free(dt_buckets handle) { delete static_cast<Handle*>(handle); }

}  // extern "C"
