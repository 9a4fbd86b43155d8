// A communicator of the loopback library, and what its ranks share.
#ifndef LOOPBACK_COMM_H
#define LOOPBACK_COMM_H
#include "loopback.h"
#include <limits.h>

enum {
    ncclSuccess, ncclUnhandledCudaError, ncclSystemError, ncclInternalError, ncclInvalidArgument, ncclInvalidUsage, ncclRemoteError,
    ncclInProgress
};
typedef struct comm *ncclComm_t;
typedef struct { char internal[128]; } ncclUniqueId;
// As much of ncclConfig_t as is read here.
typedef struct {
    size_t size;
    unsigned magic, version;
    int blocking;
} ncclConfig_t;

enum { MAX_RANKS = 16, CHUNK = 256 << 10, MESSAGE = 64 << 10, COMM_MAGIC = 0x10095ac0, ABORTED = -1 };
enum { HOST, DEVICE, LANES }; // who waits: jobs of the host, or the collectives on streams

// What a rank is about to do; all must say the same.
struct call {
    int kind, type, op, root;
    size_t count;
};

struct seat {
    _Atomic int pid, gone;
    _Atomic uint64_t phase[LANES];
    struct call call;
    int color, key; // of a split
    char id[64];
};

// A message on its way from one rank to another.
struct channel {
    _Atomic int full;
    int type;
    size_t total, n;
    char data[MESSAGE];
};

struct segment {
    uint8_t nonce[16];
    _Atomic int size;
    _Atomic unsigned bell; // rung whenever something has changed
    struct seat seats[MAX_RANKS];
    _Alignas(64) char data[MAX_RANKS][CHUNK];
    struct channel channels[MAX_RANKS][MAX_RANKS]; // [from][to]
};

enum { MAX_PREMULS = 64, FIRST_PREMUL = 5 };
struct premul {
    int used, type;
    uint64_t scalar;
};

struct comm {
    unsigned magic;
    int rank, size, blocking, silent, seated, own_fd;
    _Atomic int state; // what ncclCommGetAsyncError tells
    _Atomic int aborted, finalized, refs, inflight, registered;
    _Atomic unsigned bell;          // rung for those who wait in this process
    _Atomic uint64_t issued, served; // kernels of one communicator run one at a time, in the order of their launch
    uint64_t phase[LANES];
    int collectives; // begun, for faults
    struct segment *seg;
    struct premul premuls[MAX_PREMULS];
};

int set_last(int result, const char *format, ...) __attribute__((format(printf, 2, 3)));
void comm_fail(struct comm *c, int result, const char *format, ...) __attribute__((format(printf, 3, 4)));
void ring(struct segment *s);
int listen_bell(struct segment *s, unsigned heard);
int peer_gone(struct comm *c, int rank, int look);
int step(struct comm *c, int lane);
void until_abort(struct comm *c);
void until_served(struct comm *c, uint64_t ticket);
void serve_next(struct comm *c);
struct comm *comm_ref(struct comm *c);
void comm_unref(struct comm *c);
int comm_ready(struct comm *c);
void comm_done(struct comm *c);
void in_thread(void *(*run)(void *), void *arg);
int settle(struct comm *c);
int group_depth(void);
#endif
