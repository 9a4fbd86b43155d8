// The vocabulary projection and its cross-entropy in one: the logits' buffer becomes their gradient in place, so [M, V] exists
// once and not three times.
#pragma once
#include "grad.h"
#include "vexp.h"

#include <ATen/Parallel.h>

#include <cmath>


namespace ddprun {
namespace {

// A row of logits -> probabilities less the target's, which are 1 - smoothing at the label and smoothing / n everywhere; returns the row's loss.
DDPRUN_CLONES float cross_entropy_row(float* row, int64_t n, int64_t label, float smoothing) {
  float mean = 0;
  if (smoothing > 0) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += row[i];
    mean = static_cast<float>(sum / n);
  }
  float best[16];
  for (int l = 0; l < 16; l++) best[l] = -INFINITY;
  int64_t k = 0;
  for (; k + 16 <= n; k += 16) for (int l = 0; l < 16; l++) best[l] = row[k + l] > best[l] ? row[k + l] : best[l];
  float top = -INFINITY;
  for (int l = 0; l < 16; l++) top = best[l] > top ? best[l] : top;
  for (; k < n; k++) top = row[k] > top ? row[k] : top;
  const float at_label = row[label];
  float acc[16] = {0};
  for (k = 0; k + 16 <= n; k += 16)
    for (int l = 0; l < 16; l++) {
      const float e = vexp(row[k + l] - top);
      row[k + l] = e;
      acc[l] += e;
    }
  float sum = 0;
  for (; k < n; k++) sum += row[k] = vexp(row[k] - top);
  for (int l = 0; l < 16; l++) sum += acc[l];
  const float inv = 1.0f / sum;
  const float share = smoothing / n;
  for (k = 0; k < n; k++) row[k] = row[k] * inv - share;
  row[label] -= 1.0f - smoothing;
  return top + std::log(sum) - at_label + smoothing * (at_label - mean);
}

struct LinearCrossEntropy : Function<LinearCrossEntropy> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& w, const MaybeTensor& b,
                            const at::Tensor& labels, double smoothing) {
    at::AutoDispatchBelowADInplaceOrView below;
    at::Tensor logits = product(x, w, b);
    const int64_t m = logits.size(0), v = logits.size(1);
    const int64_t* label = labels.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < m; i++) TORCH_CHECK(label[i] >= 0 && label[i] < v, "label ", label[i], " of ", v, " classes");
    float* p = logits.mutable_data_ptr<float>();
    std::vector<float> losses(m);
    at::parallel_for(0, m, 1, [&](int64_t lo, int64_t hi) {
      for (int64_t i = lo; i < hi; i++) losses[i] = cross_entropy_row(p + i * v, v, label[i], smoothing);
    });
    double sum = 0;
    for (float l : losses) sum += l;
    ctx->save_for_backward({x, w, or_undefined(b)});
    ctx->saved_data["dlogits"] = logits;  // an intermediate, not an input: saved_data takes it without a graph
    return at::full({}, sum, x.options());
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1], &b = saved[2];
    at::Tensor dlogits = ctx->saved_data["dlogits"].toTensor();
    const double g = grads[0].item<double>();
    at::Tensor dx;
    if (ctx->needs_input_grad(0)) dx = product(dlogits, w).mul_(g);
    Sink dw(w), db(b);
    if (dw) add_product(dw.target, dlogits.t(), x, g);
    if (db) db.target.add_(dlogits.sum(0), g);
    ctx->saved_data.clear();
    return {dx, dw.result(), db.result(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace
}  // namespace ddprun


extern "C" {

// x [M, H], w [V, H], b [V] or none, labels [M] -> the sum of the M losses.
dt_error dt_linear_cross_entropy(dt_tensor x, dt_tensor w, dt_tensor b, dt_tensor labels, double smoothing, dt_tensor* out) {
  return guard([&] {
    const at::Tensor &xt = T(x), &lt = T(labels);
    if (composed(xt)) {
      *out = give(cross_entropy(xt, T(w), maybe(b), lt, smoothing));
      return;
    }
    TORCH_CHECK(xt.dim() == 2 && xt.is_cpu() && xt.scalar_type() == at::kFloat, "cross-entropy: want a float matrix on the CPU, got ", xt.sizes());
    TORCH_CHECK(lt.dim() == 1 && lt.scalar_type() == at::kLong && lt.numel() == xt.size(0), "cross-entropy: ", lt.numel(), " labels for ", xt.size(0), " rows");
    *out = give(LinearCrossEntropy::apply(xt.contiguous(), T(w), maybe(b), lt.contiguous(), smoothing));
  });
}

}  // extern "C"
