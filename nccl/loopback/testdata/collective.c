// Collectives and groups. A call becomes an op; a group's ops go onto their streams together when it ends.
#include "comm.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ALL_REDUCE = 1, BROADCAST, REDUCE, ALL_GATHER, REDUCE_SCATTER, SEND, RECV };
enum { SUM, PROD, MAX, MIN, AVG };
static const char *kind_names[] = {"", "AllReduce", "Broadcast", "Reduce", "AllGather", "ReduceScatter", "Send", "Recv"};

struct op {
    struct comm *c;
    void *stream;
    struct call call;
    const char *in;
    char *out;
    int premul; // the operator's scalar is set
    uint64_t scalar;
    size_t moved; // of a message
    uint64_t ticket; // of the first op of a kernel
    struct op *next;
};

static void op_free(struct op *o) {
    for (struct op *next; o; o = next) {
        next = o->next;
        comm_unref(o->c);
        free(o);
    }
}

// own writes this rank's n elements from element "from" on to its place in the segment, multiplied where the operator wants it.
static void own(struct op *o, size_t from, size_t n) {
    size_t size = type_size(o->call.type);
    char *to = o->c->seg->data[o->c->rank];
    if (o->premul) scale(to, o->in + from * size, n, o->call.type, &o->scalar);
    else memcpy(to, o->in + from * size, n * size);
}

// sum reduces every rank's n elements into out.
static void sum(struct op *o, char *out, size_t n) {
    struct comm *c = o->c;
    int op = o->call.op > AVG || o->call.op == AVG ? SUM : o->call.op;
    memcpy(out, c->seg->data[0], n * type_size(o->call.type));
    for (int r = 1; r < c->size; r++) reduce_into(out, c->seg->data[r], n, o->call.type, op);
    if (o->call.op == AVG && !type_is_float(o->call.type)) divide(out, n, o->call.type, c->size);
}

// chunk moves n elements from element at on; block is which rank's, for a reduce-scatter.
static int chunk(struct op *o, size_t at, size_t n, int block) {
    struct comm *c = o->c;
    size_t size = type_size(o->call.type);
    int rc, rank = c->rank;
    switch (o->call.kind) {
    case BROADCAST:
        if (rank == o->call.root) own(o, at, n);
        break;
    case REDUCE_SCATTER:
        own(o, (size_t)block * o->call.count + at, n);
        break;
    default: own(o, at, n);
    }
    if ((rc = step(c, DEVICE))) return rc;
    char *out = o->out + at * size;
    switch (o->call.kind) {
    case ALL_REDUCE: sum(o, out, n); break;
    case REDUCE:
        if (rank == o->call.root) sum(o, out, n);
        break;
    case REDUCE_SCATTER:
        if (rank == block) sum(o, out, n);
        break;
    case BROADCAST: memcpy(out, c->seg->data[o->call.root], n * size); break;
    case ALL_GATHER:
        for (int r = 0; r < c->size; r++) memcpy(out + (size_t)r * o->call.count * size, c->seg->data[r], n * size);
    }
    return step(c, DEVICE);
}

// agree compares what the ranks are about to do. NCCL leaves a difference undefined (it hangs, or the result is wrong); here it
// is an asynchronous error on every rank, so that a test sees it.
static int agree(struct op *o) {
    struct comm *c = o->c;
    struct call mine = o->call;
    if (mine.op > AVG) mine.op = FIRST_PREMUL; // each rank numbers its operators itself
    c->seg->seats[c->rank].call = mine;
    int rc = step(c, DEVICE);
    if (rc) return rc;
    struct call a = c->seg->seats[0].call;
    for (int r = 1; r < c->size; r++) {
        struct call b = c->seg->seats[r].call;
        if (a.kind != b.kind || a.type != b.type || a.op != b.op || a.root != b.root || a.count != b.count) {
            comm_fail(c, ncclInvalidUsage,
                      "loopback: collective %d: rank 0 calls %s (count %zu, type %d, op %d, root %d), rank %d %s (count %zu, type %d, op %d, root %d)",
                      c->collectives, kind_names[a.kind], a.count, a.type, a.op, a.root, r, kind_names[b.kind], b.count, b.type, b.op, b.root);
            return ncclInvalidUsage;
        }
    }
    return 0;
}

// faults does what the test has asked for; it returns 1 where the collective is not to go on.
static int faults(struct comm *c) {
    struct fault f;
    if (fault_at(FAULT_DIE, c->rank, c->collectives, &f)) kill(getpid(), SIGKILL);
    if (fault_at(FAULT_ERROR, c->rank, c->collectives, &f)) {
        comm_fail(c, f.code, "loopback: error on demand at collective %d of rank %d", c->collectives, c->rank);
        return 1;
    }
    return fault_at(FAULT_HANG, c->rank, c->collectives, &f);
}

static int collective(struct op *o) {
    struct comm *c = o->c;
    int rc = agree(o), blocks = o->call.kind == REDUCE_SCATTER ? c->size : 1;
    size_t most = CHUNK / type_size(o->call.type);
    for (int b = 0; b < blocks && !rc; b++)
        for (size_t at = 0; at < o->call.count && !rc; at += most)
            rc = chunk(o, at, o->call.count - at < most ? o->call.count - at : most, b);
    return rc ? rc : step(c, DEVICE); // nobody says what comes next before all have read what this was
}

// move takes a message on by what its channel has room for; 1 where something moved.
static int move(struct op *o) {
    struct comm *c = o->c;
    size_t total = o->call.count * type_size(o->call.type);
    int peer = o->call.root, send = o->call.kind == SEND;
    struct channel *ch = send ? &c->seg->channels[c->rank][peer] : &c->seg->channels[peer][c->rank];
    if (atomic_load(&ch->full) == send) return 0;
    if (send) {
        ch->total = total;
        ch->type = o->call.type;
        ch->n = total - o->moved < MESSAGE ? total - o->moved : MESSAGE;
        memcpy(ch->data, o->in + o->moved, ch->n);
    } else {
        if (ch->total != total || ch->type != o->call.type) {
            comm_fail(c, ncclInvalidUsage, "loopback: rank %d receives %zu bytes of type %d, and rank %d sends %zu of type %d", c->rank, total,
                      o->call.type, peer, ch->total, ch->type);
            return 0;
        }
        memcpy(o->out + o->moved, ch->data, ch->n);
    }
    o->moved += ch->n;
    atomic_store(&ch->full, send);
    ring(c->seg);
    return 1;
}

// messages takes all sends and receives of a group on together, so that none waits for another. done[i] marks those that ended.
static int messages(struct op **ops, int n) {
    char done[n];
    memset(done, 0, (size_t)n);
    struct comm *c = ops[0]->c;
    for (int left = n, quiet = 0; left;) {
        unsigned heard = atomic_load(&c->seg->bell);
        int moved = 0, gone = -1;
        for (int i = 0; i < n; i++) {
            int blocked = done[i];
            // Two messages between the same ranks go one after the other.
            for (int j = 0; j < i && !blocked; j++)
                blocked = !done[j] && ops[j]->call.kind == ops[i]->call.kind && ops[j]->call.root == ops[i]->call.root;
            if (blocked) continue;
            int left_us = peer_gone(c, ops[i]->call.root, quiet); // asked first: what a peer sent before it left still counts
            if (move(ops[i])) {
                moved = 1;
                if (ops[i]->moved == ops[i]->call.count * type_size(ops[i]->call.type)) done[i] = 1, left--;
            } else if (left_us) gone = ops[i]->call.root;
        }
        int state = atomic_load(&c->state);
        if (atomic_load(&c->aborted)) return ABORTED;
        if (state != ncclSuccess && state != ncclInProgress) return state;
        if (gone >= 0 && !moved) {
            comm_fail(c, ncclRemoteError, "loopback: rank %d (process %d) is gone", gone, atomic_load(&c->seg->seats[gone].pid));
            return ncclRemoteError;
        }
        quiet = left && !moved && listen_bell(c->seg, heard);
    }
    return 0;
}

// run is a kernel: the ops of one communicator and stream, collectives in order and then the messages.
static void run(void *arg) {
    struct op *first = arg, *messages_[64];
    struct comm *c = first->c;
    int rc = 0, n = 0, begun = 0;
    until_served(c, first->ticket);
    for (struct op *o = first; o && !rc && !atomic_load(&c->aborted); o = o->next) {
        if (o->call.kind < SEND) {
            c->collectives++;
            rc = faults(c) ? -2 : collective(o);
        } else if (n < 64) {
            if (!begun++) c->collectives++, rc = faults(c) ? -2 : 0;
            messages_[n++] = o;
        }
    }
    if (n && !rc && !atomic_load(&c->aborted)) rc = messages(messages_, n);
    struct fault f;
    if (!rc && fault_at(FAULT_DELAY, c->rank, c->collectives, &f)) sleep_ms(f.ms);
    if (rc && rc != ABORTED) until_abort(c); // a kernel whose communicator has failed stays until the abort
    serve_next(c);
    atomic_fetch_sub(&c->inflight, 1);
    op_free(first);
}

static _Thread_local struct {
    int depth, error, n;
    struct op *first, **last;
} group;

int group_depth(void) { return group.depth; }

int ncclGroupStart(void) {
    group.depth++;
    return ncclSuccess;
}

struct launch {
    struct op *ops;
    int us;
};

// launch parts the ops by communicator and stream, in order, and pushes each part.
static void *launch(void *arg) {
    struct launch *l = arg;
    if (l->us > 0) usleep((useconds_t)l->us);
    while (l->ops) {
        struct op *first = l->ops, *rest = NULL, **same = &first->next, **other = &rest;
        for (struct op *o = first->next; o; o = o->next) {
            int joins = o->c == first->c && o->stream == first->stream;
            if (joins) *same = o, same = &o->next;
            else *other = o, other = &o->next;
        }
        *same = *other = NULL;
        l->ops = rest;
        struct comm *c = comm_ref(first->c);
        first->ticket = atomic_fetch_add(&c->issued, 1);
        atomic_fetch_add(&c->inflight, 1);
        if (stream_push(first->stream, run, first)) {
            comm_fail(c, ncclUnhandledCudaError, "loopback: not a stream");
            op_free(first);
        }
        int more = 0; // ops of this communicator on another stream
        for (struct op *o = rest; o; o = o->next) more |= o->c == c;
        if (!more && !c->blocking) comm_done(c);
        comm_unref(c);
    }
    free(l);
    return NULL;
}

static int flush(void) {
    struct op *ops = group.first;
    int rc = group.error, late = 0;
    if (rc) op_free(ops);
    group.first = NULL;
    group.error = 0;
    if (rc || !ops) return rc;
    for (struct op *o = ops; o; o = o->next) late |= !o->c->blocking;
    late = late && loopback_option("LOOPBACK_LAUNCH_US", 0) >= 0;
    for (struct op *o = ops; o; o = o->next)
        if (late && !o->c->blocking) atomic_store(&o->c->state, ncclInProgress);
    struct launch *l = malloc(sizeof *l);
    *l = (struct launch){ops, loopback_option("LOOPBACK_LAUNCH_US", 0)};
    // NCCL launches the work of non-blocking communicators on a thread of its own, and so the stream has it later than the call.
    if (late) {
        in_thread(launch, l);
        return ncclInProgress;
    }
    launch(l);
    return ncclSuccess;
}

int ncclGroupEnd(void) {
    if (!group.depth) return set_last(ncclInvalidUsage, "ncclGroupEnd: not in a group call.");
    if (--group.depth) return ncclSuccess;
    return flush();
}

static int submit(struct comm *c, void *stream, struct call call, const void *in, void *out) {
    int rc = comm_ready(c);
    struct op *o = NULL;
    if (!rc && !type_size(call.type)) rc = set_last(ncclInvalidArgument, "%s : invalid type %d", kind_names[call.kind], call.type);
    if (!rc && (call.root < 0 || call.root >= c->size))
        rc = set_last(ncclInvalidArgument, "%s : invalid root %d (root should be in the 0..%d range)", kind_names[call.kind], call.root, c->size);
    int reduces = call.kind == ALL_REDUCE || call.kind == REDUCE || call.kind == REDUCE_SCATTER;
    if (!rc && reduces && !type_reduces(call.type)) rc = set_last(ncclInvalidArgument, "loopback: type %d is not reduced", call.type);
    if (!rc && call.count && ((!in && (call.kind != BROADCAST || c->rank == call.root) && call.kind != RECV) ||
                              (!out && call.kind != SEND && (call.kind != REDUCE || c->rank == call.root))))
        rc = set_last(ncclInvalidArgument, "%s : buffer is NULL", kind_names[call.kind]);
    struct premul *p = reduces && call.op >= FIRST_PREMUL && call.op < FIRST_PREMUL + MAX_PREMULS && !rc ? &c->premuls[call.op - FIRST_PREMUL] : NULL;
    if (!rc && reduces && (call.op < 0 || (call.op > AVG && (!p || !p->used || p->type != call.type))))
        rc = set_last(ncclInvalidArgument, "%s : invalid reduction operation %d", kind_names[call.kind], call.op);
    if (!rc) {
        o = calloc(1, sizeof *o);
        *o = (struct op){.c = comm_ref(c), .stream = stream, .call = call, .in = in, .out = out};
        if (p) o->premul = 1, o->scalar = p->scalar;
        if (reduces && call.op == AVG && type_is_float(call.type)) o->premul = 1, inverse(&o->scalar, c->size, call.type);
    }
    if (rc && group.depth && !group.error) group.error = rc;
    if (rc) return rc;
    if (!group.first) group.last = &group.first;
    *group.last = o;
    group.last = &o->next;
    return group.depth ? ncclSuccess : flush();
}

#define C(k, n, t, o, r) ((struct call){.kind = k, .count = n, .type = t, .op = o, .root = r})
int ncclAllReduce(const void *in, void *out, size_t n, int t, int op, ncclComm_t c, void *s) {
    return submit(c, s, C(ALL_REDUCE, n, t, op, 0), in, out);
}
int ncclBroadcast(const void *in, void *out, size_t n, int t, int root, ncclComm_t c, void *s) {
    return submit(c, s, C(BROADCAST, n, t, 0, root), in, out);
}
int ncclReduce(const void *in, void *out, size_t n, int t, int op, int root, ncclComm_t c, void *s) {
    return submit(c, s, C(REDUCE, n, t, op, root), in, out);
}
int ncclAllGather(const void *in, void *out, size_t n, int t, ncclComm_t c, void *s) {
    return submit(c, s, C(ALL_GATHER, n, t, 0, 0), in, out);
}
int ncclReduceScatter(const void *in, void *out, size_t n, int t, int op, ncclComm_t c, void *s) {
    return submit(c, s, C(REDUCE_SCATTER, n, t, op, 0), in, out);
}
int ncclSend(const void *in, size_t n, int t, int peer, ncclComm_t c, void *s) { return submit(c, s, C(SEND, n, t, 0, peer), in, NULL); }
int ncclRecv(void *out, size_t n, int t, int peer, ncclComm_t c, void *s) { return submit(c, s, C(RECV, n, t, 0, peer), NULL, out); }

int ncclRedOpCreatePreMulSum(int *op, void *scalar, int type, int residence, ncclComm_t c) {
    (void)residence; // the device's memory is the host's
    int rc = comm_ready(c);
    if (rc) return rc;
    if (!scalar || !type_reduces(type)) return set_last(ncclInvalidArgument, "loopback: PreMulSum wants a scalar of a type that is reduced");
    for (int i = 0; i < MAX_PREMULS; i++)
        if (!c->premuls[i].used) {
            c->premuls[i] = (struct premul){.used = 1, .type = type};
            memcpy(&c->premuls[i].scalar, scalar, type_size(type));
            *op = FIRST_PREMUL + i;
            return ncclSuccess;
        }
    return set_last(ncclInternalError, "loopback: more than %d operators", MAX_PREMULS);
}

int ncclRedOpDestroy(int op, ncclComm_t c) {
    if (!c || op < FIRST_PREMUL || op >= FIRST_PREMUL + MAX_PREMULS || !c->premuls[op - FIRST_PREMUL].used)
        return set_last(ncclInvalidArgument, "ncclRedOpDestroy() called on a reduction operator that is not there");
    c->premuls[op - FIRST_PREMUL].used = 0;
    return ncclSuccess;
}
