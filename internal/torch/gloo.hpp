// Gloo as libtorch carries it, meeting through a store that is served by Go.

#pragma once
#include "shim_internal.h"

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

// Go's side of the store. Results are malloc'd; an error is a malloc'd message.
extern "C" {
char* ddprunStoreSet(uintptr_t h, const char* key, int64_t nkey, const char* val, int64_t nval);
char* ddprunStoreGet(uintptr_t h, const char* key, int64_t nkey, int64_t timeout_ms, char** val, int64_t* nval);
char* ddprunStoreAdd(uintptr_t h, const char* key, int64_t nkey, int64_t delta, int64_t* out);
char* ddprunStoreDelete(uintptr_t h, const char* key, int64_t nkey, int* out);
char* ddprunStoreCheck(uintptr_t h, const char* key, int64_t nkey, int* out);
}

namespace ddprun {
namespace {

void check(char* err) {
  if (!err) return;
  std::string msg(err);
  free(err);
  TORCH_CHECK(false, "store: ", msg);
}

class GoStore : public c10d::Store {
 public:
  GoStore(uintptr_t handle, std::chrono::milliseconds timeout) : c10d::Store(timeout), handle_(handle) {}
  c10::intrusive_ptr<c10d::Store> clone() override { return c10::make_intrusive<GoStore>(handle_, timeout_); }
  using c10d::Store::set;
  void set(const std::string& key, const std::vector<uint8_t>& v) override {
    check(ddprunStoreSet(handle_, key.data(), key.size(), reinterpret_cast<const char*>(v.data()), v.size()));
  }
  std::vector<uint8_t> get(const std::string& key) override { return fetch(key, timeout_); }
  int64_t add(const std::string& key, int64_t delta) override {
    int64_t out = 0;
    check(ddprunStoreAdd(handle_, key.data(), key.size(), delta, &out));
    return out;
  }
  bool deleteKey(const std::string& key) override {
    int out = 0;
    check(ddprunStoreDelete(handle_, key.data(), key.size(), &out));
    return out != 0;
  }
  bool check(const std::vector<std::string>& keys) override {
    for (const auto& k : keys) {
      int there = 0;
      ddprun::check(ddprunStoreCheck(handle_, k.data(), k.size(), &there));
      if (!there) return false;
    }
    return true;
  }
  int64_t getNumKeys() override { TORCH_CHECK(false, "store: the number of keys is not kept"); }
  void wait(const std::vector<std::string>& keys) override { wait(keys, timeout_); }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) override {
    for (const auto& k : keys) fetch(k, timeout);
  }

 private:
  void check(char* err) { ddprun::check(err); }
  std::vector<uint8_t> fetch(const std::string& key, std::chrono::milliseconds timeout) {
    char* val = nullptr;
    int64_t n = 0;
    ddprun::check(ddprunStoreGet(handle_, key.data(), key.size(), timeout.count(), &val, &n));
    std::vector<uint8_t> out(val, val + n);
    free(val);
    return out;
  }
  uintptr_t handle_;
};

// Whether a group was aborted; its waits sleep on it.
struct Ending {
  std::mutex mutex;
  std::condition_variable changed;
  bool aborted = false;
};

// libtorch's abort of Gloo does nothing. This one closes the connections, which peers see at once, and gives up this rank's waits:
// what its thread is in the middle of may itself end only after the timeout.
class Gloo : public c10d::ProcessGroupGloo {
 public:
  using ProcessGroupGloo::ProcessGroupGloo;
  void abort() override {
    for (auto& context : contexts_) context->closeConnections();
    std::lock_guard<std::mutex> lock(ending->mutex);
    ending->aborted = true;
    ending->changed.notify_all();
  }
  const std::shared_ptr<Ending> ending = std::make_shared<Ending>();
};

// A collective under way. It holds its tensors, also after a wait that was given up.
struct Work {
  c10::intrusive_ptr<c10d::Work> work;
  std::shared_ptr<Ending> ending;
  void wait() {
    auto future = work->getFuture();
    future->addCallback([ending = ending](c10::ivalue::Future&) {
      std::lock_guard<std::mutex> lock(ending->mutex);
      ending->changed.notify_all();
    });
    {
      std::unique_lock<std::mutex> lock(ending->mutex);
      ending->changed.wait(lock, [&] { return ending->aborted || future->completed(); });
      TORCH_CHECK(future->completed(), "the process group was aborted");
    }
    work->wait();  // for its exception
  }
};

using Group = c10::intrusive_ptr<Gloo>;
Group& G(dt_gloo g) { return *static_cast<Group*>(g); }
dt_work start(dt_gloo g, c10::intrusive_ptr<c10d::Work> work) { return new Work{std::move(work), G(g)->ending}; }

}  // namespace
}  // namespace ddprun


using namespace ddprun;

extern "C" {

dt_error dt_gloo_new(uintptr_t store, const char* hostname, int rank, int size, int64_t timeout_ms, dt_gloo* out) {
  return guard([&] {
    std::chrono::milliseconds timeout(timeout_ms);
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(hostname));
    // One thread runs the collectives in the order in which they were started; buckets are few and large, so a second
    // one would only take the cores from the backward pass.
    options->threads = 1;
    *out = new Group(c10::make_intrusive<Gloo>(c10::make_intrusive<GoStore>(store, timeout), rank, size, options));
  });
}

dt_error dt_gloo_allreduce(dt_gloo g, dt_tensor t, dt_work* out) {
  return guard([&] {
    std::vector<at::Tensor> tensors{T(t)};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::SUM;
    *out = start(g, G(g)->allreduce(tensors, options));
  });
}

dt_error dt_gloo_broadcast(dt_gloo g, dt_tensor t, int root, dt_work* out) {
  return guard([&] {
    std::vector<at::Tensor> tensors{T(t)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    *out = start(g, G(g)->broadcast(tensors, options));
  });
}

// out_flat: [size x numel], rank r's part at row r.
dt_error dt_gloo_allgather(dt_gloo g, dt_tensor t, dt_tensor out_flat, dt_work* out) {
  return guard([&] {
    std::vector<std::vector<at::Tensor>> outputs{T(out_flat).unbind(0)};
    std::vector<at::Tensor> inputs{T(t)};
    *out = start(g, G(g)->allgather(outputs, inputs, c10d::AllgatherOptions()));
  });
}

dt_error dt_work_wait(dt_work w) {
  std::unique_ptr<Work> work(static_cast<Work*>(w));
  return guard([&] { work->wait(); });
}

void dt_gloo_abort(dt_gloo g) {
  free(guard([&] { G(g)->abort(); }));
}

// The destructor joins the group's thread, which after an abort may take until the timeout.
void dt_gloo_free(dt_gloo g) {
  free(guard([&] {
    bool aborted;
    {
      std::lock_guard<std::mutex> lock(G(g)->ending->mutex);
      aborted = G(g)->ending->aborted;
    }
    if (aborted) std::thread([g] { delete static_cast<Group*>(g); }).detach();
    else delete static_cast<Group*>(g);
  }));
}

}  // extern "C"
