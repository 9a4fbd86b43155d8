// What ddprun calls of NCCL, written down anew so that building needs no nccl.h. header_test.go holds every value and
// layout here against the nccl.h of NVIDIA's packages.
#ifndef DDPRUN_NCCL_API_H
#define DDPRUN_NCCL_API_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

enum { API_UNIQUE_ID_BYTES = 128, API_SPLIT_NOCOLOR = -1, API_SCALAR_HOST = 1 };
enum { API_CONFIG_VERSION = 22809 };
#define API_CONFIG_MAGIC 0xcafebeefu
#define API_CONFIG_UNDEF_INT INT_MIN

typedef struct {
    char internal[API_UNIQUE_ID_BYTES];
} api_unique_id;

// ncclConfig_t of 2.28. A library that is older reads as much of it as it knows; a newer one sees size and version.
typedef struct {
    size_t size;
    unsigned int magic;
    unsigned int version;
    int blocking;
    int cgaClusterSize;
    int minCTAs;
    int maxCTAs;
    const char *netName;
    int splitShare;
    int trafficClass;
    const char *commName;
    int collnetEnable;
    int CTAPolicy;
    int shrinkShare;
    int nvlsCTAs;
    int nChannelsPerNetPeer;
    int nvlinkCentricSched;
} api_config;

#define API_CONFIG_INITIALIZER                                                                                        \
    {sizeof(api_config), API_CONFIG_MAGIC, API_CONFIG_VERSION, API_CONFIG_UNDEF_INT, API_CONFIG_UNDEF_INT,            \
     API_CONFIG_UNDEF_INT, API_CONFIG_UNDEF_INT, NULL, API_CONFIG_UNDEF_INT, API_CONFIG_UNDEF_INT, NULL,              \
     API_CONFIG_UNDEF_INT, API_CONFIG_UNDEF_INT, API_CONFIG_UNDEF_INT, API_CONFIG_UNDEF_INT, API_CONFIG_UNDEF_INT,    \
     API_CONFIG_UNDEF_INT}

typedef void *api_comm;
typedef void *api_stream;

// The functions, in the order of the names in library.go; the last ones may be NULL.
struct api {
    int (*GetVersion)(int *);
    int (*GetUniqueId)(api_unique_id *);
    const char *(*GetErrorString)(int);
    const char *(*GetLastError)(api_comm);
    int (*CommInitRankConfig)(api_comm *, int, api_unique_id, int, api_config *);
    int (*CommFinalize)(api_comm);
    int (*CommDestroy)(api_comm);
    int (*CommAbort)(api_comm);
    int (*CommGetAsyncError)(api_comm, int *);
    int (*CommCount)(api_comm, int *);
    int (*CommUserRank)(api_comm, int *);
    int (*AllReduce)(const void *, void *, size_t, int, int, api_comm, api_stream);
    int (*Broadcast)(const void *, void *, size_t, int, int, api_comm, api_stream);
    int (*Reduce)(const void *, void *, size_t, int, int, int, api_comm, api_stream);
    int (*AllGather)(const void *, void *, size_t, int, api_comm, api_stream);
    int (*ReduceScatter)(const void *, void *, size_t, int, int, api_comm, api_stream);
    int (*Send)(const void *, size_t, int, int, api_comm, api_stream);
    int (*Recv)(void *, size_t, int, int, api_comm, api_stream);
    int (*GroupStart)(void);
    int (*GroupEnd)(void);
    int (*RedOpCreatePreMulSum)(int *, void *, int, int, api_comm);
    int (*RedOpDestroy)(int, api_comm);
    int (*CommSplit)(api_comm, int, int, api_comm *, api_config *);
    int (*MemAlloc)(void **, size_t);
    int (*MemFree)(void *);
    int (*CommRegister)(api_comm, void *, size_t, void **);
    int (*CommDeregister)(api_comm, void *);
};

#endif
