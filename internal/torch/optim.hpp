// Work over all parameters at once: AdamW, the gradient norm, scaling.
#pragma once
#include "shim_internal.h"

#include <ATen/Parallel.h>


using namespace ddprun;

extern "C" {

dt_error dt_fused_adamw(dt_tensor* params, dt_tensor* grads, dt_tensor* exp_avgs, dt_tensor* exp_avg_sqs, int n,
                        int64_t step, double lr, double beta1, double beta2, double weight_decay, double eps) {
  return guard([&] {
    if (n == 0) return;
    at::NoGradGuard no_grad;
    auto list = [n](dt_tensor* a) {
      std::vector<at::Tensor> v;
      v.reserve(n);
      for (int i = 0; i < n; i++) v.push_back(T(a[i]));
      return v;
    };
    auto p = list(params), g = list(grads), m = list(exp_avgs), v = list(exp_avg_sqs);
    // The kernel reads the count of this step (1 for the first); 0 would divide by zero.
    at::Tensor count = at::full({}, static_cast<double>(step), p[0].options().dtype(at::kFloat));
    std::vector<at::Tensor> steps(n, count);
    at::_fused_adamw_(p, g, m, v, {}, steps, lr, beta1, beta2, weight_decay, eps, false, false);
  });
}

// Sums of squares of consecutive segments, each accumulated in double in a fixed order: the same whatever the threads.
dt_error dt_square_sums(dt_tensor flat, int64_t segment, double* out, int64_t nout) {
  return guard([&] {
    const at::Tensor& t = T(flat);
    TORCH_CHECK(t.is_contiguous() && t.scalar_type() == at::kFloat && t.is_cpu(), "square sums: want a contiguous float tensor on the CPU");
    const float* x = t.const_data_ptr<float>();
    const int64_t n = t.numel();
    TORCH_CHECK(nout == (n + segment - 1) / segment, "square sums: ", nout, " results for ", n, " elements");
    at::parallel_for(0, nout, 1, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; s++) {
        const int64_t lo = s * segment, hi = std::min(n, lo + segment);
        double acc[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        int64_t i = lo;
        for (; i + 8 <= hi; i += 8)
          for (int k = 0; k < 8; k++) acc[k] += static_cast<double>(x[i + k]) * x[i + k];
        double sum = 0;
        for (; i < hi; i++) sum += static_cast<double>(x[i]) * x[i];
        for (int k = 0; k < 8; k++) sum += acc[k];
        out[s] = sum;
      }
    });
  });
}

// Copies from into to, which has as many elements and perhaps another type. On the CPU it stays on the calling thread, which may be one
// without a pool of its own.
dt_error dt_convert(dt_tensor from, dt_tensor to) {
  return guard([&] {
    at::NoGradGuard no_grad;
    const at::Tensor& f = T(from);
    at::Tensor& t = T(to);
    TORCH_CHECK(f.numel() == t.numel(), "convert: ", f.numel(), " elements into ", t.numel());
    if (!f.is_cpu() || !t.is_cpu()) {
      t.copy_(f);
      return;
    }
    TORCH_CHECK(f.is_contiguous() && t.is_contiguous(), "convert: want contiguous tensors");
    auto loop = [n = f.numel()](const auto* x, auto* y) {
      for (int64_t i = 0; i < n; i++) y[i] = static_cast<std::remove_pointer_t<decltype(y)>>(static_cast<float>(x[i]));
    };
    const auto pair = std::make_pair(f.scalar_type(), t.scalar_type());
    if (pair == std::make_pair(at::kFloat, at::kBFloat16)) loop(f.const_data_ptr<float>(), t.data_ptr<at::BFloat16>());
    else if (pair == std::make_pair(at::kFloat, at::kHalf)) loop(f.const_data_ptr<float>(), t.data_ptr<at::Half>());
    else if (pair == std::make_pair(at::kBFloat16, at::kFloat)) loop(f.const_data_ptr<at::BFloat16>(), t.data_ptr<float>());
    else if (pair == std::make_pair(at::kHalf, at::kFloat)) loop(f.const_data_ptr<at::Half>(), t.data_ptr<float>());
    else TORCH_CHECK(false, "convert: ", f.scalar_type(), " into ", t.scalar_type());
  });
}

dt_error dt_scale(dt_tensor flat, double factor) {
  return guard([&] {
    at::NoGradGuard no_grad;
    T(flat).mul_(factor);
  });
}

}  // extern "C"
