// The C interface of the shim: what gotch's libtch lacks. Every function catches every exception and returns its error in
// the same call: NULL, or a message that the caller frees. Tensors are at::Tensor*, as in libtch; results are owned by the
// caller, arguments are borrowed. No Go pointer is kept: callbacks carry a cgo.Handle.
#pragma once
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef void *dt_tensor;
typedef char *dt_error;  // NULL: no error

// core.hpp: memory, gradients, threads
dt_error dt_zeros(const int64_t *dims, int ndims, int scalar_type, dt_tensor *out);
dt_error dt_from_memory(void *memory, int64_t n, int scalar_type, dt_tensor *out);
dt_error dt_memory(dt_tensor t, int scalar_type, void **out);
dt_error dt_address(dt_tensor t, uintptr_t *out);
dt_error dt_from_int64(const int64_t *data, int64_t n, dt_tensor *out);
dt_error dt_slice1d_view(dt_tensor flat, int64_t offset, const int64_t *dims, int ndims, dt_tensor *out);
dt_error dt_set_grad(dt_tensor t, dt_tensor grad);
dt_error dt_zero(dt_tensor t);
dt_error dt_set_requires_grad(dt_tensor t, int on);
dt_error dt_backward(dt_tensor loss);
dt_error dt_scalar_value(dt_tensor t, double *out);
void dt_set_bf16(int on);
dt_error dt_set_threads(int n);
dt_error dt_tune_allocator(void);
const char *dt_version(void);

// device.hpp: where tensors live, copies that nobody waits for, and a trace
typedef void *dt_fetch_handle;
dt_error dt_open_cuda(int *gpus);
dt_error dt_open_library(const char *file);
int dt_has_driver(void);
dt_error dt_use_cuda(int device);
void dt_use_cpu(void);
dt_error dt_forbid_waits(int on);
void dt_pretend(int on);
int dt_composed(void);
dt_error dt_set_precision(int tf32, int deterministic);
dt_error dt_device_zeros(const int64_t *dims, int ndims, int scalar_type, dt_tensor *out);
dt_error dt_stage(const void *data, int64_t n, int scalar_type, dt_tensor *out);
dt_error dt_read(dt_tensor t, float *to, int64_t n);
dt_error dt_write(dt_tensor t, const float *from, int64_t n);
dt_error dt_numbers(dt_tensor *values, int n, dt_tensor *out);
dt_error dt_to_host(dt_tensor t, dt_tensor *out);
dt_error dt_fetch(dt_tensor t, dt_fetch_handle *out);
dt_error dt_fetch_done(dt_fetch_handle f, int *done);
dt_error dt_fetch_wait(dt_fetch_handle f, double *out, int64_t n);
void dt_fetch_free(dt_fetch_handle f);
dt_error dt_trace_begin(void);
char *dt_trace_end(void);
int dt_has_cuda_kernel(const char *name);

// optim.hpp: whole lists of parameters in one call
dt_error dt_fused_adamw(dt_tensor *params, dt_tensor *grads, dt_tensor *exp_avgs, dt_tensor *exp_avg_sqs, int n,
                        int64_t step, double lr, double beta1, double beta2, double weight_decay, double eps);
dt_error dt_judge(dt_tensor *grads, int n, dt_tensor streak, dt_tensor steps, double max_norm, int64_t limit, dt_tensor *verdict,
                  dt_tensor *found_inf, dt_tensor *grad_scale);
dt_error dt_fused_adamw_judged(dt_tensor *params, dt_tensor *grads, dt_tensor *exp_avgs, dt_tensor *exp_avg_sqs, int n,
                               dt_tensor steps, dt_tensor found_inf, dt_tensor grad_scale, double lr, double beta1, double beta2,
                               double weight_decay, double eps);
dt_error dt_square_sums(dt_tensor flat, int64_t segment, double *out, int64_t nout);
dt_error dt_scale(dt_tensor flat, double factor);
dt_error dt_convert(dt_tensor from, dt_tensor to);

// hooks.hpp: buckets of parameters that count down during backward
typedef void *dt_buckets;
dt_error dt_buckets_new(dt_tensor *params, const int *bucket_of, int nparams, int nbuckets, uintptr_t handle,
                        dt_buckets *out);
void dt_buckets_arm(dt_buckets b, int on);
int dt_buckets_late(dt_buckets b);
void dt_buckets_free(dt_buckets b);

// checkpoint.hpp: a segment that Go computes again in backward; it is forgotten with the graph, or where this fails
dt_error dt_checkpoint(dt_tensor *inputs, int ninputs, dt_tensor *outputs, int noutputs, uintptr_t handle, dt_tensor *out);
dt_error dt_backward_from(dt_tensor *outputs, dt_tensor *grads, int n);

// gloo.hpp: the process group inside libtorch
typedef void *dt_gloo;
typedef void *dt_work;
dt_error dt_gloo_new(uintptr_t store, const char *hostname, int rank, int size, int64_t timeout_ms, dt_gloo *out);
dt_error dt_gloo_allreduce(dt_gloo g, dt_tensor t, dt_work *out);
dt_error dt_gloo_broadcast(dt_gloo g, dt_tensor t, int root, dt_work *out);
dt_error dt_gloo_allgather(dt_gloo g, dt_tensor t, dt_tensor out_flat, dt_work *out);
dt_error dt_work_wait(dt_work w);
void dt_gloo_abort(dt_gloo g);
void dt_gloo_free(dt_gloo g);

// fused.hpp, t5.hpp, attention.hpp, loss.hpp: layers whose backward draws the same dropout again and adds parameters' gradients
// in place.
typedef struct {
  uint64_t seed;
  uint32_t step, lane, site;
} dt_key;
dt_error dt_linear(dt_tensor x, dt_tensor w, dt_tensor b, dt_tensor *out);
dt_error dt_gelu_linear(dt_tensor x, dt_tensor w, dt_tensor b, int tanh, dt_tensor *out);
dt_error dt_embedding_sum(dt_tensor words, dt_tensor positions, dt_tensor types, dt_tensor ids, dt_tensor position_ids,
                          dt_tensor type_ids, int64_t padding_id, dt_tensor *out);
dt_error dt_dropout(dt_tensor x, double p, dt_key key, dt_tensor *out);
dt_error dt_dropout_add_layer_norm(dt_tensor x, dt_tensor residual, dt_tensor w, dt_tensor b, double eps, double p,
                                   dt_key key, dt_tensor *out);
dt_error dt_dropout_add_rms_norm(dt_tensor x, dt_tensor residual, dt_tensor w, double eps, double p, dt_key key, dt_tensor *sum,
                                 dt_tensor *out);
dt_error dt_dropout_activation(dt_tensor x, dt_tensor gate, int activation, double p, dt_key key, dt_tensor *out);
dt_error dt_attention(dt_tensor q, dt_tensor k, dt_tensor v, const int32_t *queries, const int32_t *keys, int nsamples,
                      int heads, double scale, dt_tensor table, int64_t max_distance, int causal, double p, dt_key key,
                      dt_tensor *out);
int64_t dt_relative_bucket(int64_t distance, int64_t buckets, int64_t max_distance, int causal);
dt_error dt_composed_attention(dt_tensor q, dt_tensor k, dt_tensor v, const int32_t *queries, const int32_t *keys, int nsamples,
                               int heads, double scale, dt_tensor table, int causal, double p, dt_key key, dt_tensor cum_q,
                               dt_tensor cum_k, dt_tensor plan, const int64_t *lengths, const int64_t *samples, int groups,
                               dt_tensor *out);
dt_error dt_linear_cross_entropy(dt_tensor x, dt_tensor w, dt_tensor b, dt_tensor labels, double smoothing, dt_tensor *out);
void dt_philox_block(uint64_t seed, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t *out4);

#ifdef __cplusplus
}
#endif
