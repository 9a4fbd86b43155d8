// The layers as libtorch's own operations, for tensors on a GPU (and for tests on the CPU, where they are compared with the fused ones). In bfloat16 what a
// matrix product returns stays bfloat16 up to the next sum or norm, as under PyTorch's autocast; sums, norms and losses are float32.
#pragma once
#include "attention.hpp"
#include "fused.hpp"
#include "device.hpp"

#include <limits>
#include <mutex>

namespace ddprun {
namespace {

// What sums, norms and losses are computed in: float32 of a shorter type; float64 stays, for tests that want to know how far off float32 is.
at::Tensor summable(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

// ---- dropout. On a GPU libtorch's generator is seeded anew at each draw, from the draw's key: nothing depends on what was drawn before, and a layer that
// is computed again draws the same. On the CPU the draws are the fused layers'.

void reseed(const at::Device& device, const dt_key& key) {
  uint32_t r[4];
  dt_philox_block(key.seed, 0xFFFFFFFFu, 0xFFFFFFFFu, key.step, key.lane << 16 | key.site, r);  // no layer's counter
  at::Generator g = at::globalContext().defaultGenerator(device);
  std::lock_guard<std::mutex> lock(g.mutex());
  g.set_current_seed(static_cast<uint64_t>(r[0]) << 32 | r[1]);
}

void factors(float* out, int64_t columns, int64_t row, const DropKey& key) {
  float mult[kTile];
  for (int64_t t = 0; t * kTile < columns; t++) {
    drop_tile(key, t, row, mult);
    std::copy_n(mult, std::min<int64_t>(kTile, columns - t * kTile), out + t * kTile);
  }
}

at::Tensor dropped(const at::Tensor& x, double p, const dt_key& key) {
  if (!(p > 0)) return x;
  if (!x.is_cpu()) {
    reseed(x.device(), key);
    return std::get<0>(at::native_dropout(x, p, true));
  }
  at::Tensor mult = at::empty({x.size(0), x.size(1)}, at::kFloat);
  const DropKey k = drop_key(key, p);
  for (int64_t i = 0; i < x.size(0); i++) factors(mult.mutable_data_ptr<float>() + i * x.size(1), x.size(1), i, k);
  return x * mult.to(x.scalar_type());
}

// ---- embeddings: the gradient is added to the table's own, without a table of zeros between

constexpr int64_t kFewRows = 16;  // of a table whose gradient is a matrix product: all tokens would meet at its rows

struct TableRows : Function<TableRows> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& table, const at::Tensor& ids, int64_t skip) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({table, ids});
    ctx->saved_data["skip"] = skip;
    return table.index_select(0, ids);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::NoGradGuard no_grad;
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &table = saved[0], &ids = saved[1];
    const int64_t skip = ctx->saved_data["skip"].toInt(), rows = table.size(0);
    at::Tensor dy = summable(grads[0]);
    if (skip >= 0) dy = dy.masked_fill(ids.eq(skip).unsqueeze(1), 0);
    Sink sink(table);
    if (!sink) return {at::Tensor(), at::Tensor(), at::Tensor()};
    if (rows <= kFewRows) {
      sink.target.addmm_(at::arange(rows, ids.options()).unsqueeze(1).eq(ids.unsqueeze(0)).to(dy.scalar_type()), dy);
    } else {
      sink.target.index_add_(0, ids, dy);
    }
    return {sink.result(), at::Tensor(), at::Tensor()};
  }
};

at::Tensor embedding_sum(const at::Tensor& words, const MaybeTensor& positions, const MaybeTensor& types, const at::Tensor& ids, const MaybeTensor& position_ids,
                         const MaybeTensor& type_ids, int64_t padding_id) {
  at::Tensor y = TableRows::apply(words, ids, padding_id);
  if (positions) y = y + TableRows::apply(*positions, *position_ids, -1);
  if (types) y = y + TableRows::apply(*types, *type_ids, -1);
  return y;
}

// ---- norms, activations, loss

at::Tensor residual_sum(const at::Tensor& x, const MaybeTensor& residual, double p, const dt_key& key) {
  const at::Tensor z = dropped(x, p, key);
  return summable(residual ? z + *residual : z);
}

at::Tensor layer_norm(const at::Tensor& x, const MaybeTensor& residual, const at::Tensor& w, const at::Tensor& b, double eps, double p, const dt_key& key) {
  return at::layer_norm(residual_sum(x, residual, p, key), {x.size(1)}, w, b, eps);
}

at::Tensor activation(const at::Tensor& x, const MaybeTensor& gate, int kind, double p, const dt_key& key) {
  at::Tensor y = kind == 0 ? at::relu(x) : kind == 1 ? at::gelu(x) : kind == 2 ? at::gelu(x, "tanh") : at::silu(x);
  if (gate) y = y * *gate;
  return dropped(y, p, key);
}

at::Tensor cross_entropy(const at::Tensor& x, const at::Tensor& w, const MaybeTensor& b, const at::Tensor& labels, double smoothing) {
  const at::Tensor logits = summable(Linear::apply(x, w, b));
  return at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum, -100, smoothing);
}

// ---- attention (DESIGN 4). Kernels want head sizes that are multiples of 8.

at::Tensor heads_of(const at::Tensor& x, int64_t heads) {  // [N, W] -> [N, heads, d], d padded with zeros to a multiple of 8
  const int64_t d = x.size(1) / heads;
  at::Tensor y = x.view({x.size(0), heads, d});
  return d % 8 == 0 ? y : at::constant_pad_nd(y, {0, 8 - d % 8});
}

int64_t most(const std::vector<int64_t>& starts) {
  int64_t n = 0;
  for (size_t i = 1; i < starts.size(); i++) n = std::max(n, starts[i] - starts[i - 1]);
  return n;
}

// Samples back to back: flash attention in bfloat16, memory-efficient attention in float32, both of variable length. cq and ck are the starts on the device.
at::Tensor varlen_on_gpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Shape& s, const at::Tensor& cq, const at::Tensor& ck, double p,
                         const dt_key& key) {
  if (p > 0) reseed(q.device(), key);
  const at::Tensor qh = heads_of(q, s.heads), kh = heads_of(k, s.heads), vh = heads_of(v, s.heads);
  at::Tensor out;
  if (q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf) {
    out = std::get<0>(at::_flash_attention_forward(qh, kh, vh, cq, ck, most(s.queries), most(s.keys), p, s.causal, false, s.scale));
  } else {
    constexpr int64_t kFromBottomRight = 2;  // a sample's queries are the last of its keys
    out = std::get<0>(at::_efficient_attention_forward(qh.unsqueeze(0), kh.unsqueeze(0), vh.unsqueeze(0), {}, cq, ck, most(s.queries), most(s.keys), p,
                                                       s.causal ? kFromBottomRight : 0, at::GradMode::is_enabled(), s.scale)).squeeze(0);
  }
  return out.narrow(2, 0, s.head_dim).reshape({q.size(0), s.width});
}

// The same on the CPU, a sample at a time.
at::Tensor varlen_on_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Shape& s, double p, const dt_key& key) {
  std::vector<at::Tensor> out;
  const DropKey drop = drop_key(key, p);
  for (size_t i = 1; i < s.keys.size(); i++) {
    const int64_t q0 = s.queries[i - 1], nq = s.queries[i] - q0, k0 = s.keys[i - 1], nk = s.keys[i] - k0;
    if (nq == 0) continue;
    auto part = [&](const at::Tensor& x, int64_t from, int64_t n) { return x.narrow(0, from, n).view({n, s.heads, s.head_dim}).transpose(0, 1); };
    at::Tensor scores = summable(part(q, q0, nq).matmul(part(k, k0, nk).transpose(1, 2)) * s.scale);
    if (s.causal) scores = scores.masked_fill(at::ones({nq, nk}, at::kBool).triu(nk - nq + 1), -std::numeric_limits<double>::infinity());
    at::Tensor probs = scores.softmax(-1);
    if (p > 0) {
      at::Tensor mult = at::empty({s.heads, nq, nk}, at::kFloat);
      for (int64_t h = 0; h < s.heads; h++)
        for (int64_t r = 0; r < nq; r++) factors(mult.mutable_data_ptr<float>() + (h * nq + r) * nk, nk, (q0 + r) * s.heads + h, drop);
      probs = probs * mult;
    }
    out.push_back(probs.to(v.scalar_type()).matmul(part(v, k0, nk)).transpose(0, 1).reshape({nq, s.width}));
  }
  return at::cat(out);
}

// A sample that asks nothing is left out, since not every kernel knows such ones: its keys get no gradient.
at::Tensor varlen(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Shape& s, const at::Tensor& cq, const at::Tensor& ck, double p,
                  const dt_key& key) {
  if (q.is_cpu()) return varlen_on_cpu(q, k, v, s, p, key);
  Shape asking = s;
  asking.queries = {0};
  asking.keys = {0};
  std::vector<int64_t> rows;
  for (size_t i = 1; i < s.keys.size(); i++) {
    if (s.queries[i] == s.queries[i - 1]) continue;
    asking.queries.push_back(s.queries[i]);
    for (int64_t r = s.keys[i - 1]; r < s.keys[i]; r++) rows.push_back(r);
    asking.keys.push_back(static_cast<int64_t>(rows.size()));
  }
  if (asking.keys.size() == s.keys.size()) return varlen_on_gpu(q, k, v, s, cq, ck, p, key);
  const at::Tensor kept = stage(rows.data(), rows.size(), at::kLong);
  const std::vector<int32_t> iq(asking.queries.begin(), asking.queries.end()), ik(asking.keys.begin(), asking.keys.end());
  return varlen_on_gpu(q, k.index_select(0, kept), v.index_select(0, kept), asking, stage(iq.data(), iq.size(), at::kInt), stage(ik.data(), ik.size(), at::kInt), p, key);
}

// Samples of similar length padded together, with T5's bias as mask. plan, on the device, holds for each group of samples: the rows of its slots among
// the keys and among the queries (row 0 where there is none), the samples' numbers of keys, and the buckets of its distances; at last each query's slot.
at::Tensor padded(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Shape& s, const at::Tensor& table, const at::Tensor& plan,
                  const int64_t* lengths, const int64_t* samples, int groups, double p, const dt_key& key) {
  int64_t at = 0;
  auto take = [&](int64_t n) { at += n; return plan.narrow(0, at - n, n); };
  std::vector<at::Tensor> out;
  const double hidden = -std::numeric_limits<double>::infinity();
  if (p > 0 && !q.is_cpu()) reseed(q.device(), key);
  for (int g = 0; g < groups; g++) {
    const int64_t n = samples[g], l = lengths[g];
    const at::Tensor key_rows = take(n * l), query_rows = take(n * l), counts = take(n), buckets = take(2 * l - 1);
    auto slots = [&](const at::Tensor& x, const at::Tensor& rows) { return x.index_select(0, rows).view({n, l, s.heads, s.head_dim}).transpose(1, 2); };
    const at::Tensor qs = slots(q, query_rows), ks = slots(k, key_rows), vs = slots(v, key_rows);
    const at::Tensor place = at::arange(l, plan.options());
    // Row i of the bias is the window of distances that begins at -i.
    at::Tensor mask = table.index_select(0, buckets).t().unfold(1, l, 1).flip(1).unsqueeze(0);
    if (s.causal) mask = mask.masked_fill(place.unsqueeze(0).gt(place.unsqueeze(1)), hidden);
    mask = mask.masked_fill(place.unsqueeze(0).ge(counts.unsqueeze(1)).view({n, 1, 1, l}), hidden);
    at::Tensor y;
    if (!q.is_cpu()) {
      y = at::scaled_dot_product_attention(qs, ks, vs, mask.to(q.scalar_type()), p, false, s.scale);
    } else {
      at::Tensor probs = (summable(qs.matmul(ks.transpose(2, 3))) * s.scale + mask).softmax(-1);
      if (p > 0) {
        const DropKey drop = drop_key(key, p);
        at::Tensor mult = at::empty({n, s.heads, l, l}, at::kFloat);
        const int64_t* row = query_rows.const_data_ptr<int64_t>();
        for (int64_t i = 0; i < n; i++)
          for (int64_t h = 0; h < s.heads; h++)
            for (int64_t r = 0; r < l; r++)
              factors(mult.mutable_data_ptr<float>() + ((i * s.heads + h) * l + r) * l, l, row[i * l + r] * s.heads + h, drop);
        probs = probs * mult;
      }
      y = probs.to(v.scalar_type()).matmul(vs);
    }
    out.push_back(y.transpose(1, 2).reshape({n * l, s.width}));
  }
  return at::cat(out).index_select(0, take(q.size(0)));
}

}  // namespace
}  // namespace ddprun

using namespace ddprun;

extern "C" {

// As dt_attention, for tensors of a GPU. Without a table cum_q and cum_k are queries and keys on the device; with one, plan, lengths and samples are those of padded.
dt_error dt_composed_attention(dt_tensor q, dt_tensor k, dt_tensor v, const int32_t* queries, const int32_t* keys, int nsamples, int heads, double scale,
                               dt_tensor table, int causal, double p, dt_key key, dt_tensor cum_q, dt_tensor cum_k, dt_tensor plan, const int64_t* lengths,
                               const int64_t* samples, int groups, dt_tensor* out) {
  return guard([&] {
    const at::Tensor &qt = T(q), &kt = T(k), &vt = T(v);
    const int64_t width = qt.dim() == 2 ? qt.size(1) : 0;
    TORCH_CHECK(heads > 0 && width > 0 && width % heads == 0, "attention: ", heads, " heads do not divide queries of shape ", qt.sizes());
    Shape s{{queries, queries + nsamples + 1}, {keys, keys + nsamples + 1}, heads, width, width / heads, scale, causal != 0, 0};
    if (qt.size(0) == 0) {
      *out = give(qt * 1);
      return;
    }
    *out = give(table ? padded(qt, kt, vt, s, T(table), T(plan), lengths, samples, groups, p, key) : varlen(qt, kt, vt, s, T(cum_q), T(cum_k), p, key));
  });
}

}  // extern "C"
