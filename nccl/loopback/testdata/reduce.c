// Arithmetic of NCCL's types, element by element in rank order. Half types are rounded after each step, as a ring does.
#include "loopback.h"
#include <string.h>

enum { I8, U8, I32, U32, I64, U64, F16, F32, F64, BF16, F8A, F8B };
enum { SUM, PROD, MAX, MIN };

size_t type_size(int t) {
    static const size_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
    return t < 0 || t > F8B ? 0 : sizes[t];
}

int type_reduces(int t) { return t >= 0 && t <= BF16; }
int type_is_float(int t) { return t == F16 || t == F32 || t == F64 || t == BF16; }

static float from_bits(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static uint32_t to_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }

static float from_bf16(uint16_t b) { return from_bits((uint32_t)b << 16); }
static uint16_t to_bf16(float f) {
    uint32_t u = to_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, frac = h & 0x3ff;
    if (exp == 31) return from_bits(sign | 0x7f800000 | frac << 13);
    if (exp == 0) {
        float f = (float)frac * 0x1p-24f;
        return sign ? -f : f;
    }
    return from_bits(sign | (exp + 112) << 23 | frac << 13);
}

static uint16_t to_f16(float f) {
    uint32_t u = to_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); // from 65520 on, to infinity
    if (a < 0x38800000) {                                  // subnormal: the adder rounds to units of 2^-24
        float r = from_bits(a) + 0.5f;
        return (uint16_t)(sign | (to_bits(r) - 0x3f000000));
    }
    a += 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | ((a >> 13) - (112 << 10)));
}

#define ONE(x, y, op) ((op) == SUM ? (x) + (y) : (op) == PROD ? (x) * (y) : (op) == MAX ? ((x) > (y) ? (x) : (y)) : ((x) < (y) ? (x) : (y)))
#define LOOP(T)                                                                                                      \
    {                                                                                                                \
        T *a = acc;                                                                                                  \
        const T *b = in;                                                                                             \
        for (size_t i = 0; i < n; i++) a[i] = (T)ONE(a[i], b[i], op);                                                \
        return;                                                                                                      \
    }
#define HALF(from, to)                                                                                               \
    {                                                                                                                \
        uint16_t *a = acc;                                                                                           \
        const uint16_t *b = in;                                                                                      \
        for (size_t i = 0; i < n; i++) a[i] = to(ONE(from(a[i]), from(b[i]), op));                                   \
        return;                                                                                                      \
    }

void reduce_into(void *acc, const void *in, size_t n, int type, int op) {
    switch (type) {
    case I8: LOOP(int8_t)
    case U8: LOOP(uint8_t)
    case I32: LOOP(int32_t)
    case U32: LOOP(uint32_t)
    case I64: LOOP(int64_t)
    case U64: LOOP(uint64_t)
    case F32: LOOP(float)
    case F64: LOOP(double)
    case F16: HALF(from_f16, to_f16)
    case BF16: HALF(from_bf16, to_bf16)
    }
}

void scale(void *out, const void *in, size_t n, int type, const void *scalar) {
#define SCALE(T)                                                                                                     \
    {                                                                                                                \
        T s;                                                                                                         \
        memcpy(&s, scalar, sizeof s);                                                                                \
        for (size_t i = 0; i < n; i++) ((T *)out)[i] = (T)(((const T *)in)[i] * s);                                  \
        return;                                                                                                      \
    }
#define SCALE_HALF(from, to)                                                                                         \
    {                                                                                                                \
        uint16_t s;                                                                                                  \
        memcpy(&s, scalar, sizeof s);                                                                                \
        for (size_t i = 0; i < n; i++) ((uint16_t *)out)[i] = to(from(((const uint16_t *)in)[i]) * from(s));         \
        return;                                                                                                      \
    }
    switch (type) {
    case I8: SCALE(int8_t)
    case U8: SCALE(uint8_t)
    case I32: SCALE(int32_t)
    case U32: SCALE(uint32_t)
    case I64: SCALE(int64_t)
    case U64: SCALE(uint64_t)
    case F32: SCALE(float)
    case F64: SCALE(double)
    case F16: SCALE_HALF(from_f16, to_f16)
    case BF16: SCALE_HALF(from_bf16, to_bf16)
    }
}

void inverse(void *scalar, int n, int type) {
    float f = 1.0f / (float)n;
    double d = 1.0 / n;
    uint16_t h = type == F16 ? to_f16(f) : to_bf16(f);
    if (type == F32) memcpy(scalar, &f, sizeof f);
    else if (type == F64) memcpy(scalar, &d, sizeof d);
    else memcpy(scalar, &h, sizeof h);
}

void divide(void *a, size_t count, int type, int n) {
#define DIV(T)                                                                                                       \
    {                                                                                                                \
        for (size_t i = 0; i < count; i++) ((T *)a)[i] = (T)(((T *)a)[i] / (T)n);                                    \
        return;                                                                                                      \
    }
    switch (type) {
    case I8: DIV(int8_t)
    case U8: DIV(uint8_t)
    case I32: DIV(int32_t)
    case U32: DIV(uint32_t)
    case I64: DIV(int64_t)
    case U64: DIV(uint64_t)
    }
}
