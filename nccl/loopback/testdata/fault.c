// Faults on demand: KIND:rank=R,at=K,code=C,ms=N; several are parted by semicolons.
//   die      rank R is killed as it comes to its K-th collective
//   error    rank R's communicator gets the asynchronous error C there, and the collective never ends
//   hang     rank R never takes part in its K-th collective
//   init     rank R never finishes joining a communicator
//   delay    collectives of rank R end N ms late
// rank and at are any where they are left out. Collectives count from 1, those of each communicator by itself.
#include "loopback.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static struct fault faults[16];
static int count = -1; // not read yet

static void parse(const char *text) {
    static const char *kinds[] = {"", "die", "error", "hang", "init", "delay"};
    char *copy = strdup(text), *rest = copy, *one;
    count = 0;
    while ((one = strsep(&rest, ";")) && count < 16) {
        char *name = strsep(&one, ":"), *pair;
        struct fault f = {0, -1, 0, 6, 0};
        for (int k = 1; k <= FAULT_DELAY; k++)
            if (!strcmp(name, kinds[k])) f.kind = k;
        while (one && (pair = strsep(&one, ","))) {
            char *key = strsep(&pair, "=");
            int *to = !strcmp(key, "rank") ? &f.rank : !strcmp(key, "at") ? &f.at : !strcmp(key, "code") ? &f.code
                    : !strcmp(key, "ms") ? &f.ms : NULL;
            if (!to || !pair) f.kind = 0;
            else *to = atoi(pair);
        }
        if (!f.kind && *text) {
            fprintf(stderr, "loopback: LOOPBACK_FAULT=%s cannot be read\n", text);
            abort();
        }
        if (f.kind) faults[count++] = f;
    }
    free(copy);
}

// ncclLoopbackFault sets the faults of this process anew; "" is none.
void ncclLoopbackFault(const char *text) {
    pthread_mutex_lock(&mu);
    parse(text);
    pthread_mutex_unlock(&mu);
}

int fault_at(int kind, int rank, int at, struct fault *found) {
    int hit = 0;
    pthread_mutex_lock(&mu);
    if (count < 0) {
        const char *text = getenv("LOOPBACK_FAULT");
        parse(text ? text : "");
    }
    for (int i = 0; i < count && !hit; i++) {
        struct fault *f = &faults[i];
        if (f->kind == kind && (f->rank < 0 || f->rank == rank) && (f->at == 0 || f->at == at)) {
            *found = *f;
            hit = 1;
        }
    }
    pthread_mutex_unlock(&mu);
    return hit;
}

int loopback_option(const char *name, int otherwise) {
    const char *v = getenv(name);
    return v && *v ? atoi(v) : otherwise;
}

void sleep_ms(int ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}
