// Calls what the benchmark calls through the binding, from C: bench LIBRARY N prints nanoseconds a call, of ncclCommGetAsyncError and of
// ncclAllReduce within a group, which is the call without the launch; of each the best of many rounds of 256 calls.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../api.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char **argv) {
    (void)argc;
    void *lib = dlopen(argv[1], RTLD_NOW);
    long n = atol(argv[2]);
    if (!lib) return puts(dlerror()), 1;
    struct api a;
    a.GetUniqueId = (int (*)(api_unique_id *))dlsym(lib, "ncclGetUniqueId");
    a.CommInitRankConfig = (int (*)(api_comm *, int, api_unique_id, int, api_config *))dlsym(lib, "ncclCommInitRankConfig");
    a.CommGetAsyncError = (int (*)(api_comm, int *))dlsym(lib, "ncclCommGetAsyncError");
    a.AllReduce = (int (*)(const void *, void *, size_t, int, int, api_comm, api_stream))dlsym(lib, "ncclAllReduce");
    a.GroupStart = (int (*)(void))dlsym(lib, "ncclGroupStart");
    a.GroupEnd = (int (*)(void))dlsym(lib, "ncclGroupEnd");
    int (*create)(void **, unsigned, int) = (int (*)(void **, unsigned, int))dlsym(lib, "cudaStreamCreateWithPriority");
    int (*wait)(void *) = (int (*)(void *))dlsym(lib, "cudaStreamSynchronize");
    api_unique_id id;
    api_comm comm;
    void *stream;
    int state = 7;
    api_config config = API_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (a.GetUniqueId(&id) || create(&stream, 0, 0) || a.CommInitRankConfig(&comm, 1, id, 0, &config) != 7) return puts("set-up failed"), 1;
    while (state == 7) a.CommGetAsyncError(comm, &state);
    double async = 1e9, reduce = 1e9, begun;
    float x = 1;
    for (long round = 0; round < n; round++) {
        begun = now();
        for (int i = 0; i < 256; i++) a.CommGetAsyncError(comm, &state);
        if (now() - begun < async) async = now() - begun;
        a.GroupStart();
        begun = now();
        for (int i = 0; i < 256; i++)
            if (a.AllReduce(&x, &x, 1, 7, 0, comm, stream)) return puts("all-reduce failed"), 1;
        if (now() - begun < reduce) reduce = now() - begun;
        a.GroupEnd();
        wait(stream);
    }
    printf("%f %f\n", async / 256, reduce / 256);
    ((int (*)(api_comm))dlsym(lib, "ncclCommAbort"))(comm);
    ((int (*)(void *))dlsym(lib, "cudaStreamDestroy"))(stream);
    return 0;
}
