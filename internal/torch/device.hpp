// The device of this process's tensors: opening libtorch's CUDA half at run time, copies between host and device that nobody waits for, and a trace of what
// was asked of libtorch, by which tests count the calls that would wait. Without a CUDA header: libtorch_cpu.so knows the interfaces.
#pragma once
#include "shim_internal.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/record_function.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace ddprun {

// Where tensors of models live.
inline at::Device& place() {
  static at::Device device(at::kCPU);
  return device;
}

// For tests: tensors on the CPU take the way of those on a GPU.
inline std::atomic<bool>& pretend() {
  static std::atomic<bool> on{false};
  return on;
}

// Whether x takes the layers that are composed of libtorch's operations, as on a GPU, and not the fused ones of the CPU.
inline bool composed(const at::Tensor& x) { return !x.is_cpu() || pretend(); }

// What the calling thread asks of libtorch's dispatcher, while it is traced.
inline std::set<std::string>*& trace() {
  static thread_local std::set<std::string>* names = nullptr;
  return names;
}
inline void traced(const char* what) {
  if (trace()) trace()->insert(what);
}

// While it lives, the calling thread is not traced.
struct Untraced {
  std::set<std::string>* const names = trace();
  Untraced() { trace() = nullptr; }
  ~Untraced() { trace() = names; }
};

namespace {

// A copy to the host that is under way.
struct Fetch {
  at::Tensor from, to;  // from is kept until it is read
  std::optional<c10::Event> event;
};

c10::Stream copies() {  // a stream of its own, so that inputs do not queue behind kernels
  static const c10::Stream stream = c10::impl::VirtualGuardImpl(place().type()).getStreamFromGlobalPool(place());
  return stream;
}

std::string open_cuda() {
  static std::string why = [] {
    if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) == nullptr)
      return std::string("no NVIDIA driver: libcuda.so.1 is not on the loader's path: install NVIDIA's driver (nvidia-smi then lists the GPU)");
    std::string dir;
    if (const char* home = std::getenv("LIBTORCH"); home && *home) {
      dir = std::string(home) + "/lib";
    } else {
      Dl_info info;
      if (dladdr(reinterpret_cast<void*>(&at::globalContext), &info) && info.dli_fname) dir = info.dli_fname;
      dir = dir.substr(0, dir.rfind('/'));
    }
    const std::string file = dir + "/libtorch_cuda.so";
    if (dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL)) return std::string();
    return "libtorch's CUDA half cannot be opened: " + std::string(dlerror()) + ": CUDA=1 make setup fetches it with what it needs, or LIBTORCH names a libtorch " TORCH_VERSION " for CUDA";
  }();
  return why;
}

// A vector on the device with a copy of data, which may change when this returns: it lies in pinned memory until the device has it.
at::Tensor stage(const void* data, int64_t n, at::ScalarType type) {
  const auto options = at::TensorOptions().dtype(type);
  const at::Device d = place();
  at::Tensor host = at::empty({n}, options.pinned_memory(!d.is_cpu()));
  if (n > 0) std::memcpy(host.data_ptr(), data, n * host.element_size());
  if (d.is_cpu()) return host;
  const c10::impl::VirtualGuardImpl device(d.type());
  const c10::Stream compute = device.getStream(d), copying = copies();
  at::Tensor there;
  {
    c10::StreamGuard on(copying);
    there = host.to(d, /*non_blocking=*/true);
  }
  c10::Event arrived(d.type());
  arrived.record(copying);
  arrived.block(compute);
  there.record_stream(compute);
  return there;
}

}  // namespace
}  // namespace ddprun

using namespace ddprun;

extern "C" {

dt_error dt_open_cuda(int* gpus) {
  return guard([&] {
    const std::string why = open_cuda();
    if (!why.empty()) throw std::runtime_error(why);
    *gpus = at::detail::getCUDAHooks().hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0;
  });
}

// Opens the library alone, which needs no driver; for tests.
dt_error dt_open_library(const char* file) {
  return guard([&] {
    if (dlopen(file, RTLD_NOW | RTLD_GLOBAL) == nullptr) throw std::runtime_error(dlerror());
  });
}

int dt_has_driver(void) { return dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) != nullptr; }

dt_error dt_use_cuda(int device) {
  return guard([&] {
    at::globalContext().lazyInitDevice(at::kCUDA);
    const at::Device d(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(d);
    place() = d;
  });
}

void dt_use_cpu(void) { place() = at::Device(at::kCPU); }

// c10::cuda::warning_state(), whose one member is a SyncDebugMode (c10/cuda/CUDAFunctions.h): 0 lets operations wait, 2 is an error instead.
dt_error dt_forbid_waits(int on) {
  return guard([&] {
    auto* mode = static_cast<int*>(dlsym(RTLD_DEFAULT, "_ZZN3c104cuda13warning_stateEvE14warning_state_"));
    TORCH_CHECK(mode, "libtorch's CUDA half is not open");
    *mode = on ? 2 : 0;
  });
}

void dt_pretend(int on) { pretend() = on != 0; }
int dt_composed(void) { return pretend() || !place().is_cpu(); }

dt_error dt_set_precision(int tf32, int deterministic) {
  return guard([&] {
    at::globalContext().setAllowTF32CuBLAS(tf32 != 0);
    at::globalContext().setAllowTF32CuDNN(tf32 != 0);
    at::globalContext().setDeterministicAlgorithms(deterministic != 0, false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);  // nothing here reads memory that was not written
    at::globalContext().setDeterministicCuDNN(deterministic != 0);
    at::globalContext().setBenchmarkCuDNN(false);
  });
}

dt_error dt_device_zeros(const int64_t* dims, int ndims, int scalar_type, dt_tensor* out) {
  return guard([&] {
    *out = give(at::zeros(at::IntArrayRef(dims, ndims), at::TensorOptions().device(place()).dtype(static_cast<at::ScalarType>(scalar_type))));
  });
}

dt_error dt_stage(const void* data, int64_t n, int scalar_type, dt_tensor* out) {
  return guard([&] { *out = give(stage(data, n, static_cast<at::ScalarType>(scalar_type))); });
}

// Copies t to floats in memory of the host, and back into contiguous floats; both wait.
dt_error dt_read(dt_tensor t, float* to, int64_t n) {
  return guard([&] {
    at::NoGradGuard no_grad;
    traced("shim::read");
    const at::Tensor& x = T(t);
    TORCH_CHECK(x.numel() == n, "read: want ", n, " elements, got the shape ", x.sizes());
    at::from_blob(to, x.sizes(), at::kFloat).copy_(x);
  });
}

dt_error dt_write(dt_tensor t, const float* from, int64_t n) {
  return guard([&] {
    at::NoGradGuard no_grad;
    traced("shim::write");
    const at::Tensor& x = T(t);
    TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kFloat && x.numel() == n, "write: want ", n, " floats, got ", x.scalar_type(), " of shape ", x.sizes());
    x.detach().copy_(at::from_blob(const_cast<float*>(from), x.sizes(), at::kFloat));
  });
}

// Scalars and vectors, one after another, as doubles where they are.
dt_error dt_numbers(dt_tensor* values, int n, dt_tensor* out) {
  return guard([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> all;
    for (int i = 0; i < n; i++) all.push_back(T(values[i]).reshape({-1}).to(at::kDouble));
    *out = give(at::cat(all));
  });
}

dt_error dt_to_host(dt_tensor t, dt_tensor* out) {
  return guard([&] {
    traced("shim::to_host");
    *out = give(T(t).detach().to(at::kCPU).contiguous());
  });
}

// Starts to copy t to the host. dt_fetch_done tells whether that has ended, dt_fetch_wait waits for it and returns the copy.
dt_error dt_fetch(dt_tensor t, dt_fetch_handle* out) {
  return guard([&] {
    auto f = std::make_unique<Fetch>();
    f->from = T(t).detach();
    if (f->from.is_cpu()) {
      f->to = f->from.clone();
    } else {
      f->to = at::empty(f->from.sizes(), f->from.options().device(at::kCPU).pinned_memory(true));
      f->to.copy_(f->from, /*non_blocking=*/true);
      f->event.emplace(f->from.device().type());
      f->event->record(c10::impl::VirtualGuardImpl(f->from.device().type()).getStream(f->from.device()));
    }
    *out = f.release();
  });
}

dt_error dt_fetch_done(dt_fetch_handle handle, int* done) {
  return guard([&] {
    auto* f = static_cast<Fetch*>(handle);
    *done = f->event ? f->event->query() : 0;  // on the CPU as late as can be, for tests
  });
}

dt_error dt_fetch_wait(dt_fetch_handle handle, double* out, int64_t n) {
  return guard([&] {
    traced("shim::fetch_wait");
    std::unique_ptr<Fetch> f(static_cast<Fetch*>(handle));
    if (f->event) f->event->synchronize();
    TORCH_CHECK(f->to.scalar_type() == at::kDouble && f->to.numel() == n, "fetch: want ", n, " doubles");
    std::memcpy(out, f->to.data_ptr(), n * sizeof(double));
  });
}

void dt_fetch_free(dt_fetch_handle handle) { delete static_cast<Fetch*>(handle); }

// Begins a trace of the calling thread; dt_trace_end returns the names, one a line, which the caller frees.
static thread_local at::CallbackHandle trace_handle;

dt_error dt_trace_begin(void) {
  return guard([&] {
    TORCH_CHECK(!trace(), "already traced");
    trace() = new std::set<std::string>;
    trace_handle = at::addThreadLocalCallback(at::RecordFunctionCallback([](const at::RecordFunction& f) -> std::unique_ptr<at::ObserverContext> {
      if (const auto name = f.operator_name()) traced(c10::toString(*name).c_str());
      return nullptr;
    }).scopes({at::RecordScope::FUNCTION}));
  });
}

char* dt_trace_end(void) {
  at::removeCallback(trace_handle);
  std::string all;
  for (const auto& name : *trace()) all += name + "\n";
  delete trace();
  trace() = nullptr;
  return strdup(all.c_str());
}

// Whether an operation, such as aten::add.Tensor, has a kernel for CUDA, or is made of others.
int dt_has_cuda_kernel(const char* name) {
  const std::string text(name);
  const size_t dot = text.find('.');
  const auto op = c10::Dispatcher::singleton().findOp({text.substr(0, dot), dot == std::string::npos ? "" : text.substr(dot + 1)});
  return op && op->hasComputedKernelForDispatchKey(c10::DispatchKey::CUDA);
}

}  // extern "C"
