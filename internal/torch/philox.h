// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), in tiles of 64 words so that compilers
// vectorise it. Dropout is a pure function of (seed, step, lane, site, row, column): nothing is kept for the backward pass.
#pragma once
#include <cstdint>

#include "shim.h"

// The best instruction set of the machine is picked when the program starts.
#define DDPRUN_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

namespace ddprun {

constexpr int kTile = 64;  // words a call; word w of block j (of 16) lies at 16 w + j

struct DropKey {
  uint32_t k0, k1, c2, c3;
  uint32_t threshold;  // a word below it drops
  float scale;         // 1 / (1 - p)
};

inline DropKey drop_key(const dt_key& key, double p) {
  return {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32), key.step, key.lane << 16 | key.site,
          static_cast<uint32_t>(p * 4294967296.0), static_cast<float>(1.0 / (1.0 - p))};
}

// Counters (16 tile + j, row, step, lane << 16 | site), j = 0..15, under the key seed.
inline __attribute__((always_inline)) void philox_tile(const DropKey& key, uint32_t tile, uint32_t row, uint32_t* out) {
  uint32_t a[16], b[16], c[16], d[16];
  for (int j = 0; j < 16; j++) {
    a[j] = 16 * tile + j;
    b[j] = row;
    c[j] = key.c2;
    d[j] = key.c3;
  }
  uint32_t k0 = key.k0, k1 = key.k1;
  for (int r = 0; r < 10; r++) {
    for (int j = 0; j < 16; j++) {
      const uint64_t x = uint64_t{0xD2511F53} * a[j], y = uint64_t{0xCD9E8D57} * c[j];
      const uint32_t na = static_cast<uint32_t>(y >> 32) ^ b[j] ^ k0, nc = static_cast<uint32_t>(x >> 32) ^ d[j] ^ k1;
      b[j] = static_cast<uint32_t>(y);
      d[j] = static_cast<uint32_t>(x);
      a[j] = na;
      c[j] = nc;
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  for (int j = 0; j < 16; j++) {
    out[j] = a[j];
    out[16 + j] = b[j];
    out[32 + j] = c[j];
    out[48 + j] = d[j];
  }
}

// Writes to mult the factors (0 or 1/(1-p)) of a row's elements 64 tile .. 64 tile + 63.
inline __attribute__((always_inline)) void drop_tile(const DropKey& key, uint32_t tile, uint32_t row, float* mult) {
  uint32_t u[kTile];
  philox_tile(key, tile, row, u);
  for (int i = 0; i < kTile; i++) mult[i] = u[i] >= key.threshold ? key.scale : 0.0f;
}

}  // namespace ddprun
