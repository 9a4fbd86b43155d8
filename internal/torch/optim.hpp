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
    auto p = listed(params, n), g = listed(grads, n), m = listed(exp_avgs, n), v = listed(exp_avg_sqs, n);
    // The kernel reads the count of this step (1 for the first); 0 would divide by zero.
    at::Tensor count = at::full({}, static_cast<double>(step), p[0].options().dtype(at::kFloat));
    std::vector<at::Tensor> steps(n, count);
    at::_fused_adamw_(p, g, m, v, {}, steps, lr, beta1, beta2, weight_decay, eps, false, false);
  });
}

// What becomes of a step, decided where the gradients are, so that nobody waits for them: no operation here reads a number on the host. Sums are in double. streak [], double,
// counts the steps in a row whose gradients were not finite, and stays once it has come to limit (0: it never does), from where on every step is left out; steps [], float, counts
// those that are not. grad_scale is what AdamW divides gradients by, none where max_norm is 0.
dt_error dt_judge(dt_tensor* grads, int n, dt_tensor streak, dt_tensor steps, double max_norm, int64_t limit, dt_tensor* verdict, dt_tensor* found_inf,
                  dt_tensor* grad_scale) {
  return guard([&] {
    at::NoGradGuard no_grad;
    const at::Tensor norms = at::stack(at::_foreach_norm(listed(grads, n), 2, at::kDouble));
    const at::Tensor norm = norms.square().sum().sqrt();
    const at::Tensor lost = norms.isfinite().logical_not().to(at::kInt), bad = norm.isfinite().logical_not().to(at::kDouble);
    // Arithmetic with 0 and 1, since at::where would bring its numbers to the device and wait for that.
    const at::Tensor first = lost.amax() * (lost.argmax() + 1) - 1;  // -1: none
    const at::Tensor before = T(streak).clone();
    const at::Tensor halted = limit > 0 ? before.ge(static_cast<double>(limit)).to(at::kDouble) : at::zeros_like(before);
    const at::Tensor skipped = at::maximum(halted, bad);
    T(streak).copy_(halted * before + (1 - halted) * bad * (before + 1));
    T(steps).add_(1 - skipped);
    *verdict = give(at::stack({norm, skipped, T(streak), first.to(at::kDouble), T(steps).to(at::kDouble)}));
    *found_inf = give(skipped.to(at::kFloat));
    if (max_norm > 0) *grad_scale = give(((norm + 1e-6) / max_norm).clamp_min(1).to(at::kFloat));
  });
}

// As dt_fused_adamw, but for what dt_judge has decided.
dt_error dt_fused_adamw_judged(dt_tensor* params, dt_tensor* grads, dt_tensor* exp_avgs, dt_tensor* exp_avg_sqs, int n, dt_tensor steps,
                               dt_tensor found_inf, dt_tensor grad_scale, double lr, double beta1, double beta2, double weight_decay, double eps) {
  return guard([&] {
    if (n == 0) return;
    at::NoGradGuard no_grad;
    auto p = listed(params, n), g = listed(grads, n), m = listed(exp_avgs, n), v = listed(exp_avg_sqs, n);
    std::vector<at::Tensor> counts(n, T(steps));
    traced("aten::_fused_adamw_");
    const Untraced inside;  // the CPU's kernel looks at steps, which CUDA's leaves to the GPU
    at::_fused_adamw_(p, g, m, v, {}, counts, lr, beta1, beta2, weight_decay, eps, false, false, maybe(grad_scale), T(found_inf));
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
