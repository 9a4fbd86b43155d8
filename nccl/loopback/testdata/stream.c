// The few functions of the CUDA runtime: streams run their tasks in order on a thread each, events mark places on them.
// "Device" memory is host memory, so CPU tensors can be reduced.
#include "loopback.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVALID_VALUE = 1, MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_HANDLE = 400, NOT_READY = 600 };
enum { STREAM_MAGIC = 0x5712ea4d, EVENT_MAGIC = 0x0e7e4707 };

struct task {
    task_fn run;
    void *arg;
    struct task *next;
};

struct stream {
    unsigned magic;
    pthread_mutex_t mu;
    pthread_cond_t cv;
    struct task *first, **last;
    uint64_t submitted, completed;
    int closing;
};

struct event {
    unsigned magic;
    int refs, timing;
    uint64_t recorded, done;
    struct timespec at;
};

static pthread_mutex_t event_mu = PTHREAD_MUTEX_INITIALIZER; // of all events
static pthread_cond_t event_cv = PTHREAD_COND_INITIALIZER;
static _Thread_local int device, last_error;

// Tasks that are on any stream: what the device has to do.
static pthread_mutex_t pending_mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pending_cv = PTHREAD_COND_INITIALIZER;
static uint64_t pending;

static void pending_add(int n) {
    pthread_mutex_lock(&pending_mu);
    pending += (uint64_t)n;
    if (!pending) pthread_cond_broadcast(&pending_cv);
    pthread_mutex_unlock(&pending_mu);
}

int cudaDeviceSynchronize(void) {
    pthread_mutex_lock(&pending_mu);
    while (pending) pthread_cond_wait(&pending_cv, &pending_mu);
    pthread_mutex_unlock(&pending_mu);
    return OK;
}

static int fail(int e) {
    if (e) last_error = e;
    return e;
}

static void *stream_main(void *arg) {
    struct stream *s = arg;
    pthread_setname_np(pthread_self(), "loopback-stream");
    pthread_mutex_lock(&s->mu);
    for (;;) {
        while (!s->first && !s->closing) pthread_cond_wait(&s->cv, &s->mu);
        struct task *t = s->first;
        if (!t) break;
        if (!(s->first = t->next)) s->last = &s->first;
        pthread_mutex_unlock(&s->mu);
        t->run(t->arg);
        free(t);
        pending_add(-1);
        pthread_mutex_lock(&s->mu);
        s->completed++;
        pthread_cond_broadcast(&s->cv);
    }
    pthread_mutex_unlock(&s->mu);
    pthread_mutex_destroy(&s->mu);
    pthread_cond_destroy(&s->cv);
    free(s);
    return NULL;
}

static struct stream *stream_new(void) {
    struct stream *s = calloc(1, sizeof *s);
    s->magic = STREAM_MAGIC;
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->cv, NULL);
    s->last = &s->first;
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &attr, stream_main, s);
    pthread_attr_destroy(&attr);
    if (rc) {
        free(s);
        return NULL;
    }
    return s;
}

static struct stream *default_stream;
static pthread_once_t default_once = PTHREAD_ONCE_INIT;
static void default_new(void) { default_stream = stream_new(); }

// Handles up to 2 are the default stream's names. It waits for no other stream here.
static struct stream *stream_of(void *handle) {
    if ((uintptr_t)handle <= 2) {
        pthread_once(&default_once, default_new);
        return default_stream;
    }
    struct stream *s = handle;
    return s->magic == STREAM_MAGIC ? s : NULL;
}

int stream_push(void *handle, task_fn run, void *arg) {
    struct stream *s = stream_of(handle);
    if (!s) return -1;
    struct task *t = malloc(sizeof *t);
    *t = (struct task){run, arg, NULL};
    pending_add(1);
    pthread_mutex_lock(&s->mu);
    *s->last = t;
    s->last = &t->next;
    s->submitted++;
    pthread_cond_broadcast(&s->cv);
    pthread_mutex_unlock(&s->mu);
    return 0;
}

int cudaStreamCreateWithPriority(void **out, unsigned flags, int priority) {
    (void)flags, (void)priority;
    return fail((*out = stream_new()) ? OK : MEMORY);
}

int cudaStreamDestroy(void *handle) {
    struct stream *s = stream_of(handle);
    if (!s || s == default_stream) return fail(INVALID_HANDLE);
    pthread_mutex_lock(&s->mu);
    s->magic = 0;
    s->closing = 1;
    pthread_cond_broadcast(&s->cv);
    pthread_mutex_unlock(&s->mu);
    return OK;
}

int cudaStreamSynchronize(void *handle) {
    struct stream *s = stream_of(handle);
    if (!s) return fail(INVALID_HANDLE);
    pthread_mutex_lock(&s->mu);
    for (uint64_t until = s->submitted; s->completed < until;) pthread_cond_wait(&s->cv, &s->mu);
    pthread_mutex_unlock(&s->mu);
    return OK;
}

int cudaStreamQuery(void *handle) {
    struct stream *s = stream_of(handle);
    if (!s) return fail(INVALID_HANDLE);
    pthread_mutex_lock(&s->mu);
    int idle = s->completed == s->submitted;
    pthread_mutex_unlock(&s->mu);
    return fail(idle ? OK : NOT_READY);
}

struct mark {
    struct event *e;
    uint64_t place;
};

static void event_release(struct event *e) { // under event_mu
    if (--e->refs == 0) free(e);
}

static void record_run(void *arg) {
    struct mark *m = arg;
    pthread_mutex_lock(&event_mu);
    if (m->e->done < m->place) {
        m->e->done = m->place;
        clock_gettime(CLOCK_MONOTONIC, &m->e->at);
    }
    pthread_cond_broadcast(&event_cv);
    event_release(m->e);
    pthread_mutex_unlock(&event_mu);
    free(m);
}

static void wait_run(void *arg) {
    struct mark *m = arg;
    pthread_mutex_lock(&event_mu);
    while (m->e->done < m->place) pthread_cond_wait(&event_cv, &event_mu);
    event_release(m->e);
    pthread_mutex_unlock(&event_mu);
    free(m);
}

// push_mark puts a record (of a new mark) or a wait (for the last one) on a stream.
static int push_mark(struct event *e, void *handle, int record) {
    if (!e || e->magic != EVENT_MAGIC || !stream_of(handle)) return fail(INVALID_HANDLE);
    struct mark *m = malloc(sizeof *m);
    pthread_mutex_lock(&event_mu);
    *m = (struct mark){e, record ? ++e->recorded : e->recorded};
    e->refs++;
    pthread_mutex_unlock(&event_mu);
    stream_push(handle, record ? record_run : wait_run, m);
    return OK;
}

int cudaEventRecord(void *e, void *stream) { return push_mark(e, stream, 1); }
int cudaStreamWaitEvent(void *stream, void *e, unsigned flags) {
    (void)flags;
    return push_mark(e, stream, 0);
}

int cudaEventCreateWithFlags(void **out, unsigned flags) {
    struct event *e = calloc(1, sizeof *e);
    e->magic = EVENT_MAGIC;
    e->refs = 1;
    e->timing = !(flags & 2);
    *out = e;
    return OK;
}

int cudaEventDestroy(void *handle) {
    struct event *e = handle;
    if (!e || e->magic != EVENT_MAGIC) return fail(INVALID_HANDLE);
    pthread_mutex_lock(&event_mu);
    e->magic = 0;
    event_release(e);
    pthread_mutex_unlock(&event_mu);
    return OK;
}

int cudaEventQuery(void *handle) {
    struct event *e = handle;
    if (!e || e->magic != EVENT_MAGIC) return fail(INVALID_HANDLE);
    pthread_mutex_lock(&event_mu);
    int done = e->done >= e->recorded;
    pthread_mutex_unlock(&event_mu);
    return fail(done ? OK : NOT_READY);
}

int cudaEventSynchronize(void *handle) {
    struct event *e = handle;
    if (!e || e->magic != EVENT_MAGIC) return fail(INVALID_HANDLE);
    pthread_mutex_lock(&event_mu);
    for (uint64_t place = e->recorded; e->done < place;) pthread_cond_wait(&event_cv, &event_mu);
    pthread_mutex_unlock(&event_mu);
    return OK;
}

int cudaEventElapsedTime(float *ms, void *from, void *to) {
    struct event *a = from, *b = to;
    if (!a || !b || a->magic != EVENT_MAGIC || b->magic != EVENT_MAGIC || !a->timing || !b->timing) return fail(INVALID_HANDLE);
    pthread_mutex_lock(&event_mu);
    int recorded = a->recorded && b->recorded, done = a->done >= a->recorded && b->done >= b->recorded;
    *ms = (float)(b->at.tv_sec - a->at.tv_sec) * 1e3f + (float)(b->at.tv_nsec - a->at.tv_nsec) * 1e-6f;
    pthread_mutex_unlock(&event_mu);
    return fail(!recorded ? INVALID_HANDLE : done ? OK : NOT_READY);
}

struct copy {
    void *to;
    const void *from;
    size_t n;
};
static void copy_run(void *arg) {
    struct copy *c = arg;
    memmove(c->to, c->from, c->n);
    free(c);
}
int cudaMemcpyAsync(void *to, const void *from, size_t n, int kind, void *stream) {
    (void)kind;
    struct copy *c = malloc(sizeof *c);
    *c = (struct copy){to, from, n};
    if (!stream_push(stream, copy_run, c)) return OK;
    free(c);
    return fail(INVALID_HANDLE);
}

static int devices(void) { return loopback_option("LOOPBACK_DEVICES", 8); }
int cudaGetDeviceCount(int *n) { return fail((*n = devices()) > 0 ? OK : NO_DEVICE); }
int cudaSetDevice(int d) {
    if (d < 0 || d >= devices()) return fail(INVALID_DEVICE);
    device = d;
    return OK;
}
int cudaGetDevice(int *d) { *d = device; return OK; }
int cudaDeviceGetAttribute(int *v, int which, int d) {
    if (d < 0 || d >= devices()) return fail(INVALID_DEVICE);
    *v = which == 75 ? 9 : which == 16 ? 1 : 0;
    return OK;
}
int cudaDeviceGetPCIBusId(char *s, int n, int d) {
    if (d < 0 || d >= devices()) return fail(INVALID_DEVICE);
    snprintf(s, (size_t)n, "0000:%02x:00.0", d + 1);
    return OK;
}
int cudaMemGetInfo(size_t *free_, size_t *total) { *free_ = *total = (size_t)1 << 30; return OK; }
int cudaDriverGetVersion(int *v) { *v = 13000; return OK; }
int cudaRuntimeGetVersion(int *v) { *v = 13000; return OK; }
int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return OK; }
int cudaGetLastError(void) { int e = last_error; last_error = OK; return e; }

static int allocate(void **p, size_t n) { return fail((*p = aligned_alloc(256, (n + 511) / 256 * 256)) ? OK : MEMORY); }
int cudaMalloc(void **p, size_t n) { return allocate(p, n); }
int cudaFree(void *p) { // waits for the device, as CUDA's does
    if (p) cudaDeviceSynchronize();
    free(p);
    return OK;
}
int cudaMallocHost(void **p, size_t n) { return allocate(p, n); }
int cudaFreeHost(void *p) { return cudaFree(p); }

static const char *text(int e, int name) {
    static const struct { int e; const char *name, *text; } all[] = {
        {OK, "cudaSuccess", "no error"},
        {INVALID_VALUE, "cudaErrorInvalidValue", "invalid argument"},
        {MEMORY, "cudaErrorMemoryAllocation", "out of memory"},
        {NO_DEVICE, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
        {INVALID_DEVICE, "cudaErrorInvalidDevice", "invalid device ordinal"},
        {INVALID_HANDLE, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
        {NOT_READY, "cudaErrorNotReady", "device not ready"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].e == e) return name ? all[i].name : all[i].text;
    return "unrecognized error code";
}
const char *cudaGetErrorString(int e) { return text(e, 0); }
const char *cudaGetErrorName(int e) { return text(e, 1); }
