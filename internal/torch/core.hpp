// Memory, gradients and threads: the calls that libtch lacks or does with an extra copy.
#pragma once
#include <malloc.h>

#include <climits>

#include "grad.h"
#include "shim_internal.h"

#include <ATen/Version.h>
#include <ATen/Parallel.h>
#include <torch/version.h>


using namespace ddprun;

extern "C" {

dt_error dt_zeros(const int64_t* dims, int ndims, int scalar_type, dt_tensor* out) {
  return guard([&] {
    *out = give(at::zeros(at::IntArrayRef(dims, ndims), at::TensorOptions().dtype(static_cast<at::ScalarType>(scalar_type))));
  });
}

dt_error dt_tune_allocator(void) {
  return guard([&] {
    const bool ok = mallopt(M_MMAP_THRESHOLD, 4 << 20) && mallopt(M_TRIM_THRESHOLD, INT_MAX);
    TORCH_CHECK(ok, "mallopt refuses");
    malloc_trim(0);
  });
}

dt_error dt_from_memory(void* memory, int64_t n, int scalar_type, dt_tensor* out) {
  return guard([&] {
    *out = give(at::from_blob(memory, {n}, at::TensorOptions().dtype(static_cast<at::ScalarType>(scalar_type))));
  });
}

dt_error dt_memory(dt_tensor t, int scalar_type, void** out) {
  return guard([&] {
    traced("shim::memory");
    const at::Tensor& x = T(t);
    TORCH_CHECK(x.is_cpu() && x.is_contiguous() && x.scalar_type() == static_cast<at::ScalarType>(scalar_type), "want contiguous ",
                static_cast<at::ScalarType>(scalar_type), " on the CPU, got ", x.scalar_type(), " of shape ", x.sizes(), " on ", x.device());
    *out = x.data_ptr();
  });
}

dt_error dt_address(dt_tensor t, uintptr_t* out) {
  return guard([&] {
    TORCH_CHECK(T(t).is_contiguous(), "want a contiguous tensor, got strides ", T(t).strides());
    *out = reinterpret_cast<uintptr_t>(T(t).data_ptr());
  });
}

dt_error dt_from_int64(const int64_t* data, int64_t n, dt_tensor* out) {
  return guard([&] {
    at::Tensor t = at::empty({n}, at::kLong);
    if (n > 0) std::memcpy(t.data_ptr<int64_t>(), data, n * sizeof(int64_t));
    *out = give(std::move(t));
  });
}

dt_error dt_slice1d_view(dt_tensor flat, int64_t offset, const int64_t* dims, int ndims, dt_tensor* out) {
  return guard([&] {
    at::IntArrayRef shape(dims, ndims);
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    *out = give(T(flat).narrow(0, offset, n).view(shape));
  });
}

dt_error dt_set_grad(dt_tensor t, dt_tensor grad) {
  return guard([&] { T(t).mutable_grad() = grad ? T(grad) : at::Tensor(); });
}

dt_error dt_zero(dt_tensor t) {
  return guard([&] {
    at::NoGradGuard no_grad;
    T(t).zero_();
  });
}

dt_error dt_set_requires_grad(dt_tensor t, int on) {
  return guard([&] { T(t).set_requires_grad(on != 0); });
}

dt_error dt_backward(dt_tensor loss) {
  return guard([&] { T(loss).backward(); });
}

dt_error dt_scalar_value(dt_tensor t, double* out) {
  return guard([&] { *out = T(t).item<double>(); });
}

void dt_set_bf16(int on) { bf16() = on != 0; }

dt_error dt_set_threads(int n) {
  return guard([&] { at::set_num_threads(n); });
}

const char* dt_version(void) { return TORCH_VERSION; }

}  // extern "C"
