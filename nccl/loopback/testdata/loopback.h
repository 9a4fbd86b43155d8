// A test double of NCCL and of the CUDA runtime over host memory: what its files share. README.md says what it is faithful to.
#ifndef LOOPBACK_H
#define LOOPBACK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

// stream.c: streams that run in order, each on a thread of its own.
struct stream;
typedef void (*task_fn)(void *arg);
// stream_push puts a task on a stream; handle is a cudaStream_t. Returns 0, or -1 where the handle is none.
int stream_push(void *handle, task_fn run, void *arg);

// fault.c: faults on demand, from LOOPBACK_FAULT or ncclLoopbackFault.
enum fault_kind { FAULT_DIE = 1, FAULT_ERROR, FAULT_HANG, FAULT_INIT, FAULT_DELAY };
struct fault {
    int kind, rank, at, code, ms;
};
// fault_at finds the fault of a kind that a rank has at its at-th collective (from 1); 0 where there is none.
int fault_at(int kind, int rank, int at, struct fault *found);
// loopback_option reads an environment variable that is a number.
int loopback_option(const char *name, int otherwise);
void sleep_ms(int ms);

// reduce.c: arithmetic of the types. Sizes are 0 for an unknown type.
size_t type_size(int type);
int type_reduces(int type);
// reduce_into sets acc[i] = acc[i] op in[i], rounded to the type each time.
void reduce_into(void *acc, const void *in, size_t n, int type, int op);
// scale sets out[i] = in[i] * scalar, the scalar being of the type.
void scale(void *out, const void *in, size_t n, int type, const void *scalar);
// inverse writes 1/n in the type; divide sets a[i] /= n for whole numbers.
void inverse(void *scalar, int n, int type);
void divide(void *a, size_t count, int type, int n);
int type_is_float(int type);

#endif
