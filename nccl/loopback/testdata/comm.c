// Communicators: ranks meet in a memfd that the maker of the unique id holds, and wait for each other on a bell in it.
#include "comm.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// The unique id: where the segment is. It is gone when the process that made it is, unless all ranks have joined by then.
struct id {
    unsigned magic;
    int pid, fd;
    uint8_t nonce[16];
};
enum { ID_MAGIC = 0x10095acc };

static char last_error[512];
static pthread_mutex_t last_mu = PTHREAD_MUTEX_INITIALIZER;

int set_last(int result, const char *format, ...) {
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&last_mu);
    vsnprintf(last_error, sizeof last_error, format, args);
    pthread_mutex_unlock(&last_mu);
    va_end(args);
    return result;
}

const char *ncclGetLastError(ncclComm_t c) {
    (void)c;
    return last_error;
}

const char *ncclGetErrorString(int r) {
    static const char *texts[] = {"no error", "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        "unhandled system error (run with NCCL_DEBUG=INFO for details)", "internal error - please report this issue to the NCCL developers",
        "invalid argument (run with NCCL_DEBUG=WARN for details)", "invalid usage (run with NCCL_DEBUG=WARN for details)",
        "remote process exited or there was a network error", "NCCL operation in progress"};
    return r < 0 || r > 7 ? "unknown result code" : texts[r];
}

int ncclGetVersion(int *v) {
    if (!v) return ncclInvalidArgument;
    *v = loopback_option("LOOPBACK_VERSION", 22809);
    return ncclSuccess;
}

// The segments that this process holds open for its unique ids, until all ranks have mapped them.
static _Atomic int held[64];

static void hold(int fd) {
    for (int i = 0, none = 0; i < 64; i++, none = 0)
        if (atomic_compare_exchange_strong(&held[i], &none, fd)) return;
}

// claim gives the descriptor of an id to the first communicator here that joins with it, which closes it; -1 to others.
static int claim(const struct id *id) {
    if (id->pid != getpid()) return -1;
    for (int i = 0, fd = id->fd; i < 64; i++, fd = id->fd)
        if (atomic_compare_exchange_strong(&held[i], &fd, 0)) return fd;
    return -1;
}

static int segment_new(struct id *id) {
    int fd = (int)syscall(SYS_memfd_create, "nccl-loopback", 1u /* MFD_CLOEXEC */);
    if (fd < 0 || ftruncate(fd, sizeof(struct segment))) return -1;
    memset(id, 0, sizeof *id);
    *id = (struct id){.magic = ID_MAGIC, .pid = getpid(), .fd = fd};
    if (getrandom(id->nonce, sizeof id->nonce, 0) != sizeof id->nonce) return -1;
    if (pwrite(fd, id->nonce, sizeof id->nonce, offsetof(struct segment, nonce)) != sizeof id->nonce) return -1;
    hold(fd);
    return 0;
}

int ncclGetUniqueId(ncclUniqueId *out) {
    if (!out) return ncclInvalidArgument;
    memset(out, 0, sizeof *out);
    struct id id;
    if (segment_new(&id)) return set_last(ncclSystemError, "loopback: memfd: %s", strerror(errno));
    memcpy(out, &id, sizeof id);
    return ncclSuccess;
}

void ring(struct segment *s) {
    atomic_fetch_add(&s->bell, 1);
    syscall(SYS_futex, &s->bell, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

int listen_bell(struct segment *s, unsigned heard) {
    struct timespec t = {0, 20 * 1000 * 1000};
    return syscall(SYS_futex, &s->bell, FUTEX_WAIT, heard, &t, NULL, 0) && errno == ETIMEDOUT;
}

void comm_fail(struct comm *c, int result, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int state = atomic_load(&c->state);
    if (state != ncclSuccess && state != ncclInProgress) return; // the first error stays
    set_last(0, "%s", text);
    atomic_store(&c->state, result);
}

// process_gone tells whether a process has ended, a zombie too.
static int process_gone(int pid) {
    if (pid == getpid()) return 0;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0u);
    if (fd < 0) return errno == ESRCH;
    struct pollfd p = {fd, POLLIN, 0};
    int gone = poll(&p, 1, 0) == 1;
    close(fd);
    return gone;
}

// peer_gone tells whether a rank will never answer again: aborted, destroyed, or, where it is worth a look, its process ended.
int peer_gone(struct comm *c, int rank, int look) {
    struct seat *seat = &c->seg->seats[rank];
    int pid = atomic_load(&seat->pid);
    if (!pid) return 0;
    if (atomic_load(&seat->gone)) return 1;
    return look && !c->silent && process_gone(pid);
}

// step says that this rank has come to the next phase of a lane and waits until all have. Returns 0, or the error that the
// communicator has now; ABORTED after an abort here.
int step(struct comm *c, int lane) {
    struct segment *s = c->seg;
    uint64_t phase = ++c->phase[lane];
    atomic_store(&s->seats[c->rank].phase[lane], phase);
    ring(s);
    for (int quiet = 0;;) {
        unsigned heard = atomic_load(&s->bell);
        int missing = -1, gone = -1;
        for (int r = 0; r < c->size; r++)
            if (atomic_load(&s->seats[r].phase[lane]) < phase) {
                missing = r;
                // A phase is announced before its rank leaves, so one that is gone and still behind never comes.
                if (peer_gone(c, r, quiet) && atomic_load(&s->seats[r].phase[lane]) < phase) gone = r;
            }
        if (missing < 0) return 0;
        if (atomic_load(&c->aborted)) return ABORTED;
        if (gone >= 0) {
            comm_fail(c, ncclRemoteError, "loopback: rank %d (process %d) is gone", gone, atomic_load(&s->seats[gone].pid));
            return ncclRemoteError;
        }
        quiet = listen_bell(s, heard);
    }
}

static void wake(struct comm *c) {
    atomic_fetch_add(&c->bell, 1);
    syscall(SYS_futex, &c->bell, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

// until_served waits for a turn, or for an abort.
void until_served(struct comm *c, uint64_t ticket) {
    for (;;) {
        unsigned heard = atomic_load(&c->bell);
        if (atomic_load(&c->aborted) || atomic_load(&c->served) == ticket) return;
        syscall(SYS_futex, &c->bell, FUTEX_WAIT, heard, NULL, NULL, 0);
    }
}

void serve_next(struct comm *c) {
    atomic_fetch_add(&c->served, 1);
    wake(c);
}

// until_abort is where a kernel is that no peer will ever feed: only an abort ends it.
void until_abort(struct comm *c) { until_served(c, UINT64_MAX); }

struct comm *comm_ref(struct comm *c) {
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void comm_unref(struct comm *c) {
    if (atomic_fetch_sub(&c->refs, 1) > 1) return;
    if (c->seg) munmap(c->seg, sizeof *c->seg);
    if (c->own_fd >= 0) close(c->own_fd);
    c->magic = 0;
    free(c);
}

int comm_ready(struct comm *c) {
    if (!c || c->magic != COMM_MAGIC) return set_last(ncclInvalidArgument, "loopback: not a communicator");
    int state = atomic_load(&c->state);
    if (atomic_load(&c->aborted)) return set_last(ncclInvalidArgument, "loopback: the communicator is aborted");
    if (state == ncclInProgress)
        return set_last(ncclInvalidArgument, "Attempt to use communicator before the previous operation returned ncclSuccess");
    return state;
}

struct job {
    void *(*run)(void *);
    void *arg;
};
static void *job_main(void *p) {
    struct job job = *(struct job *)p;
    free(p);
    pthread_setname_np(pthread_self(), "loopback-job"); // tests count the threads that are left
    return job.run(job.arg);
}

void in_thread(void *(*run)(void *), void *arg) {
    struct job *job = malloc(sizeof *job);
    *job = (struct job){run, arg};
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 256 << 10);
    if (pthread_create(&thread, &attr, job_main, job)) abort();
    pthread_attr_destroy(&attr);
}

// done ends a job of a communicator: in progress becomes success, an error stays.
void comm_done(struct comm *c) {
    int expected = ncclInProgress;
    atomic_compare_exchange_strong(&c->state, &expected, ncclSuccess);
}

// attach maps the segment and takes the seat.
static void attach(struct comm *c, const struct id *id) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", id->pid, id->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        comm_fail(c, ncclRemoteError, "loopback: the process %d that made the unique id is gone", id->pid);
        return;
    }
    struct segment *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (s == MAP_FAILED) {
        comm_fail(c, ncclSystemError, "loopback: mmap: %s", strerror(errno));
        return;
    }
    c->seg = s;
    if (memcmp(s->nonce, id->nonce, sizeof s->nonce)) {
        comm_fail(c, ncclRemoteError, "loopback: the unique id is of an earlier process");
        return;
    }
    int none = 0, size = c->size;
    if (!atomic_compare_exchange_strong(&s->size, &none, size) && none != size) {
        comm_fail(c, ncclInvalidArgument, "loopback: rank %d has %d ranks where another has %d", c->rank, size, none);
        return;
    }
    none = 0;
    if (!atomic_compare_exchange_strong(&s->seats[c->rank].pid, &none, getpid()))
        comm_fail(c, ncclInvalidUsage, "loopback: rank %d has joined twice", c->rank);
    else c->seated = 1;
}

struct init {
    struct comm *c;
    struct id id;
};

static void *init_main(void *arg) {
    struct init *i = arg;
    struct comm *c = i->c;
    struct fault f;
    if (fault_at(FAULT_INIT, c->rank, 0, &f)) until_abort(c);
    if (!atomic_load(&c->aborted)) attach(c, &i->id);
    if (c->seated && step(c, HOST) == 0 && c->own_fd >= 0) {
        close(c->own_fd); // all have mapped it
        c->own_fd = -1;
    }
    comm_done(c);
    if (atomic_load(&c->aborted) && c->seated) {
        atomic_store(&c->seg->seats[c->rank].gone, 1);
        ring(c->seg);
    }
    comm_unref(c);
    free(i);
    return NULL;
}

// comm_new begins to join; the result is a communicator in progress.
static struct comm *comm_new(const struct id *id, int rank, int size, int blocking) {
    struct comm *c = calloc(1, sizeof *c);
    c->magic = COMM_MAGIC;
    c->rank = rank;
    c->size = size;
    c->blocking = blocking;
    c->silent = loopback_option("LOOPBACK_SILENT", 0);
    c->own_fd = claim(id);
    atomic_store(&c->refs, 2);
    atomic_store(&c->state, ncclInProgress);
    struct init *i = malloc(sizeof *i);
    *i = (struct init){c, *id};
    in_thread(init_main, i);
    return c;
}

// settle waits until a blocking communicator is ready.
int settle(struct comm *c) {
    while (atomic_load(&c->state) == ncclInProgress) sleep_ms(1);
    return atomic_load(&c->state);
}

int ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId uid, int rank, ncclConfig_t *config) {
    struct id id;
    memcpy(&id, &uid, sizeof id);
    if (!out || size < 1 || rank < 0 || rank >= size) return set_last(ncclInvalidArgument, "Invalid rank requested : %d/%d", rank, size);
    if (size > MAX_RANKS) return set_last(ncclInvalidArgument, "loopback: at most %d ranks", MAX_RANKS);
    if (id.magic != ID_MAGIC) return set_last(ncclInvalidArgument, "loopback: not one of its unique ids");
    if (config && config->magic != 0xcafebeef)
        return set_last(ncclInvalidArgument, "ncclConfig_t argument not initialized via NCCL_CONFIG_INITIALIZER");
    if (config && config->blocking != INT_MIN && config->blocking != 0 && config->blocking != 1)
        return set_last(ncclInvalidArgument, "Invalid config blocking attribute value %d", config->blocking);
    *out = comm_new(&id, rank, size, !config || config->blocking != 0);
    if (!(*out)->blocking) return ncclInProgress;
    return group_depth() ? ncclSuccess : settle(*out);
}

int ncclCommInitRank(ncclComm_t *out, int size, ncclUniqueId id, int rank) {
    return ncclCommInitRankConfig(out, size, id, rank, NULL);
}

struct split {
    struct comm *c;
    int color, key;
    struct comm **out;
    int blocking;
};

// split_main divides: ranks show their colors, the first of each color makes the child's segment and shows its id.
static void *split_main(void *arg) {
    struct split *p = arg;
    struct comm *c = p->c;
    struct seat *seats = c->seg->seats;
    seats[c->rank].color = p->color;
    seats[c->rank].key = p->key;
    struct id id = {0};
    int rank = 0, size = 0, leader = c->rank;
    if (step(c, HOST)) goto end;
    for (int r = 0; r < c->size; r++) {
        if (seats[r].color != p->color) continue;
        size++;
        if (r < leader) leader = r;
        if (seats[r].key < p->key || (seats[r].key == p->key && r < c->rank)) rank++;
    }
    if (p->color >= 0 && leader == c->rank) {
        if (segment_new(&id)) comm_fail(c, ncclSystemError, "loopback: memfd: %s", strerror(errno));
        memcpy(seats[c->rank].id, &id, sizeof id);
    }
    if (step(c, HOST)) goto end;
    if (p->color >= 0) {
        memcpy(&id, seats[leader].id, sizeof id);
        *p->out = comm_new(&id, rank, size, p->blocking);
    }
end:
    comm_done(c);
    comm_unref(c);
    free(p);
    return NULL;
}

int ncclCommSplit(ncclComm_t c, int color, int key, ncclComm_t *out, ncclConfig_t *config) {
    int rc = comm_ready(c);
    if (rc) return rc;
    if (!out || (color < 0 && color != -1)) return set_last(ncclInvalidArgument, "loopback: split wants a color from 0 on, or NCCL_SPLIT_NOCOLOR");
    *out = NULL;
    struct split *p = malloc(sizeof *p);
    *p = (struct split){comm_ref(c), color, key, out, config ? config->blocking != 0 : c->blocking};
    atomic_store(&c->state, ncclInProgress);
    in_thread(split_main, p);
    if (!c->blocking) return ncclInProgress;
    rc = settle(c);
    return rc || !*out || !(*out)->blocking ? rc : settle(*out);
}

static void *finalize_main(void *arg) {
    struct comm *c = arg;
    while (atomic_load(&c->inflight) && !atomic_load(&c->aborted)) sleep_ms(1);
    if (!atomic_load(&c->aborted)) step(c, HOST);
    atomic_store(&c->finalized, 1);
    comm_done(c);
    comm_unref(c);
    return NULL;
}

int ncclCommFinalize(ncclComm_t c) {
    int rc = comm_ready(c);
    if (rc) return rc;
    if (atomic_load(&c->finalized)) return set_last(ncclInvalidArgument, "loopback: the communicator is finalized");
    atomic_store(&c->state, ncclInProgress);
    in_thread(finalize_main, comm_ref(c));
    return c->blocking ? settle(c) : ncclInProgress;
}

static void leave(struct comm *c) {
    atomic_store(&c->aborted, 1);
    wake(c);
    if (c->seated) {
        atomic_store(&c->seg->seats[c->rank].gone, 1);
        ring(c->seg);
    }
    comm_unref(c);
}

int ncclCommDestroy(ncclComm_t c) {
    if (!c) return ncclSuccess;
    if (c->magic != COMM_MAGIC) return set_last(ncclInvalidArgument, "loopback: not a communicator");
    settle(c);
    if (atomic_load(&c->state) == ncclSuccess && !atomic_load(&c->finalized)) {
        comm_ref(c);
        finalize_main(c);
    }
    leave(c);
    return ncclSuccess;
}

int ncclCommAbort(ncclComm_t c) {
    if (!c) return ncclSuccess;
    if (c->magic != COMM_MAGIC) return set_last(ncclInvalidArgument, "loopback: not a communicator");
    leave(c);
    return ncclSuccess;
}

int ncclCommGetAsyncError(ncclComm_t c, int *state) {
    if (!c || !state || c->magic != COMM_MAGIC) return set_last(ncclInvalidArgument, "loopback: not a communicator");
    *state = atomic_load(&c->state);
    return ncclSuccess;
}

#define ASK(name, field)                                                                                             \
    int name(ncclComm_t c, int *v) {                                                                                 \
        int rc = comm_ready(c);                                                                                      \
        if (!rc) *v = field;                                                                                         \
        return rc;                                                                                                   \
    }
ASK(ncclCommCount, c->size)
ASK(ncclCommUserRank, c->rank)
ASK(ncclCommCuDevice, 0)

int ncclMemAlloc(void **p, size_t n) {
    *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096);
    return *p ? ncclSuccess : ncclUnhandledCudaError;
}
int ncclMemFree(void *p) {
    free(p);
    return ncclSuccess;
}

int ncclCommRegister(ncclComm_t c, void *p, size_t n, void **handle) {
    int rc = comm_ready(c);
    if (rc) return rc;
    if (!p || !n || !handle) return set_last(ncclInvalidArgument, "loopback: nothing to register");
    *handle = malloc(1);
    atomic_fetch_add(&c->registered, 1);
    return ncclSuccess;
}
int ncclCommDeregister(ncclComm_t c, void *handle) {
    if (!handle || atomic_fetch_sub(&c->registered, 1) < 1) return set_last(ncclInvalidArgument, "loopback: not registered");
    free(handle);
    return ncclSuccess;
}
