// Shared by the shim's C++ files: error translation and tensor casts.
#pragma once
#include <torch/torch.h>

#include <cstring>
#include <exception>
#include <optional>

#include "shim.h"

namespace ddprun {

inline at::Tensor& T(dt_tensor t) { return *static_cast<at::Tensor*>(t); }

inline std::vector<at::Tensor> listed(dt_tensor* tensors, int n) {
  std::vector<at::Tensor> v;
  v.reserve(n);
  for (int i = 0; i < n; i++) v.push_back(T(tensors[i]));
  return v;
}

// A tensor that may be none. Autograd functions take it as an optional: an undefined tensor among their inputs is an error.
using MaybeTensor = std::optional<at::Tensor>;
inline MaybeTensor maybe(dt_tensor t) { return t ? MaybeTensor(T(t)) : std::nullopt; }
inline at::Tensor or_undefined(const MaybeTensor& t) { return t ? *t : at::Tensor(); }

inline dt_tensor give(at::Tensor t) { return new at::Tensor(std::move(t)); }

// Runs f and turns whatever it throws into a message. c10::Error's what_without_backtrace keeps messages readable.
template <class F>
dt_error guard(F&& f) noexcept {
  try {
    f();
    return nullptr;
  } catch (const c10::Error& e) {
    return strdup(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}

}  // namespace ddprun
