// Package cuda is the part of the CUDA runtime that communication needs: devices, streams, events and copies.
// libcudart.so is opened at run time, in the manner of package nccl; without it, or without a driver, the error is one sentence that says
// what to install.
//
// Streams and events are plain handles of C's: whoever makes one destroys it. Every method of [Runtime] may be called on any OS
// thread, but the current device ([Runtime.SetDevice]) belongs to the thread, and new streams and events to that device. Buffers
// are addresses in the device's memory or pinned host memory, and stay until the stream has passed the call. Nothing calls back.
//
// CUDART_LIBRARY names the file; without it libcudart.so.13 or .12 is looked for where libnccl is.
package cuda

/*
#include <stdint.h>
#include <stdlib.h>

typedef void *ptr;
struct api {
    int (*GetDeviceCount)(int *);
    int (*SetDevice)(int);
    int (*GetDevice)(int *);
    int (*DeviceGetAttribute)(int *, int, int);
    int (*DeviceGetPCIBusId)(char *, int, int);
    int (*MemGetInfo)(size_t *, size_t *);
    int (*DriverGetVersion)(int *);
    int (*RuntimeGetVersion)(int *);
    const char *(*GetErrorString)(int);
    const char *(*GetErrorName)(int);
    int (*GetLastError)(void);
    int (*StreamCreateWithPriority)(ptr *, unsigned, int);
    int (*StreamDestroy)(ptr);
    int (*StreamSynchronize)(ptr);
    int (*StreamQuery)(ptr);
    int (*StreamWaitEvent)(ptr, ptr, unsigned);
    int (*EventCreateWithFlags)(ptr *, unsigned);
    int (*EventDestroy)(ptr);
    int (*EventRecord)(ptr, ptr);
    int (*EventQuery)(ptr);
    int (*EventSynchronize)(ptr);
    int (*EventElapsedTime)(float *, ptr, ptr);
    int (*MemcpyAsync)(void *, const void *, size_t, int, ptr);
    int (*Malloc)(void **, size_t);
    int (*Free)(void *);
    int (*MallocHost)(void **, size_t);
    int (*FreeHost)(void *);
    int (*DeviceSynchronize)(void);
    int (*DeviceGetStreamPriorityRange)(int *, int *);
};
#define P(x) ((void *)(x))

// An int or an address that CUDA returns comes back by value, so that nothing of Go's escapes to C.
struct number { int value; int rc; };
struct address { uintptr_t at; int rc; };

static struct number count(struct api *a) { struct number r = {0}; r.rc = a->GetDeviceCount(&r.value); return r; }
static int set_device(struct api *a, int d) { return a->SetDevice(d); }
static struct number get_device(struct api *a) { struct number r = {0}; r.rc = a->GetDevice(&r.value); return r; }
static struct number attribute(struct api *a, int which, int d) { struct number r = {0}; r.rc = a->DeviceGetAttribute(&r.value, which, d); return r; }
static int bus_id(struct api *a, char *s, int n, int d) { return a->DeviceGetPCIBusId(s, n, d); }
static struct number driver_version(struct api *a) { struct number r = {0}; r.rc = a->DriverGetVersion(&r.value); return r; }
static struct number runtime_version(struct api *a) { struct number r = {0}; r.rc = a->RuntimeGetVersion(&r.value); return r; }
static const char *error_string(struct api *a, int e) { return a->GetErrorString(e); }
static const char *error_name(struct api *a, int e) { return a->GetErrorName(e); }
// A failed call leaves its error for whoever asks next, and libtorch would: it is taken away.
static void clear_error(struct api *a) { a->GetLastError(); }
static struct address stream_create(struct api *a, unsigned flags, int priority) {
    void *s = 0; int rc = a->StreamCreateWithPriority(&s, flags, priority); return (struct address){(uintptr_t)s, rc};
}
static struct number best_priority(struct api *a) { struct number r = {0}; int least; r.rc = a->DeviceGetStreamPriorityRange(&least, &r.value); return r; }
static int stream_destroy(struct api *a, uintptr_t s) { return a->StreamDestroy(P(s)); }
static int stream_synchronize(struct api *a, uintptr_t s) { return a->StreamSynchronize(P(s)); }
static int stream_query(struct api *a, uintptr_t s) { return a->StreamQuery(P(s)); }
static int stream_wait(struct api *a, uintptr_t s, uintptr_t e) { return a->StreamWaitEvent(P(s), P(e), 0); }
static struct address event_create(struct api *a, unsigned flags) {
    void *e = 0; int rc = a->EventCreateWithFlags(&e, flags); return (struct address){(uintptr_t)e, rc};
}
static int event_destroy(struct api *a, uintptr_t e) { return a->EventDestroy(P(e)); }
static int event_record(struct api *a, uintptr_t e, uintptr_t s) { return a->EventRecord(P(e), P(s)); }
static int event_query(struct api *a, uintptr_t e) { return a->EventQuery(P(e)); }
static int event_synchronize(struct api *a, uintptr_t e) { return a->EventSynchronize(P(e)); }
struct elapsed { float ms; int rc; };
static struct elapsed event_elapsed(struct api *a, uintptr_t from, uintptr_t to) {
    struct elapsed r = {0}; r.rc = a->EventElapsedTime(&r.ms, P(from), P(to)); return r;
}
enum { memcpyDefault = 4 };
static int copy_async(struct api *a, uintptr_t to, uintptr_t from, size_t n, uintptr_t s) {
    return a->MemcpyAsync(P(to), P(from), n, memcpyDefault, P(s));
}
static struct address mem_alloc(struct api *a, size_t n) { void *p = 0; int rc = a->Malloc(&p, n); return (struct address){(uintptr_t)p, rc}; }
static int mem_free(struct api *a, uintptr_t p) { return a->Free(P(p)); }
static struct address host_alloc(struct api *a, size_t n) { void *p = 0; int rc = a->MallocHost(&p, n); return (struct address){(uintptr_t)p, rc}; }
static int host_free(struct api *a, uintptr_t p) { return a->FreeHost(P(p)); }
static int device_synchronize(struct api *a) { return a->DeviceSynchronize(); }
struct memory { size_t free, total; int rc; };
static struct memory mem_info(struct api *a) { struct memory m = {0}; m.rc = a->MemGetInfo(&m.free, &m.total); return m; }
*/
import "C"

import (
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/ddprun/ddprun/nccl/dl"
)

var search = dl.Search{
	Variable: "CUDART_LIBRARY",
	Names:    []string{"libcudart.so.13", "libcudart.so.12"},
	Packages: []string{"nvidia/cu13/lib", "nvidia/cuda_runtime/lib"},
	Install:  "install the CUDA runtime (pip install nvidia-cuda-runtime, or nvidia-cuda-runtime-cu12 for CUDA 12)",
}

var names = []string{"cudaGetDeviceCount", "cudaSetDevice", "cudaGetDevice", "cudaDeviceGetAttribute", "cudaDeviceGetPCIBusId",
	"cudaMemGetInfo", "cudaDriverGetVersion", "cudaRuntimeGetVersion", "cudaGetErrorString", "cudaGetErrorName", "cudaGetLastError",
	"cudaStreamCreateWithPriority", "cudaStreamDestroy", "cudaStreamSynchronize", "cudaStreamQuery", "cudaStreamWaitEvent",
	"cudaEventCreateWithFlags", "cudaEventDestroy", "cudaEventRecord", "cudaEventQuery", "cudaEventSynchronize", "cudaEventElapsedTime",
	"cudaMemcpyAsync", "cudaMalloc", "cudaFree", "cudaMallocHost", "cudaFreeHost", "cudaDeviceSynchronize",
	"cudaDeviceGetStreamPriorityRange"}

// Runtime is the CUDA runtime with its functions looked up.
type Runtime struct {
	api  *C.struct_api // in C's memory, never freed
	path string
}

// Open finds and opens the CUDA runtime, once a process. It asks no driver yet: DeviceCount does.
var Open = sync.OnceValues(open)

func open() (*Runtime, error) {
	lib, err := search.Open()
	if err != nil {
		return nil, fmt.Errorf("cuda: %w", err)
	}
	r := &Runtime{(*C.struct_api)(C.calloc(1, C.sizeof_struct_api)), lib.Path}
	if lacking := lib.Fill(unsafe.Pointer(r.api), names); len(lacking) > 0 {
		return nil, fmt.Errorf("cuda: %s has no %s: %s: %w", lib.Path, lacking[0], search.Install, ErrTooOld)
	}
	return r, nil
}

// Path is the file that was opened.
func (r *Runtime) Path() string { return r.path }

// Versions returns the runtime's version and the newest that the driver supports, as 13000 for 13.0; the driver's is 0 without one.
func (r *Runtime) Versions() (runtime, driver int, err error) {
	v, d := C.runtime_version(r.api), C.driver_version(r.api)
	if err := r.check("cudaRuntimeGetVersion", v.rc); err != nil {
		return 0, 0, err
	}
	return int(v.value), int(d.value), r.check("cudaDriverGetVersion", d.rc)
}

// DeviceCount is the number of GPUs that CUDA_VISIBLE_DEVICES leaves, at least 1; without a GPU or a driver it is an error:
// ErrNoDevice, ErrNoDriver.
func (r *Runtime) DeviceCount() (int, error) {
	n := C.count(r.api)
	return int(n.value), r.check("cudaGetDeviceCount", n.rc)
}

// SetDevice makes a device the current one of the calling OS thread.
func (r *Runtime) SetDevice(device int) error {
	return r.check("cudaSetDevice", C.set_device(r.api, C.int(device)))
}

// Device is the current device of the calling OS thread.
func (r *Runtime) Device() (int, error) {
	n := C.get_device(r.api)
	return int(n.value), r.check("cudaGetDevice", n.rc)
}

// Properties are what a log says of a device and what choices depend on.
type Properties struct {
	Major, Minor    int // compute capability
	Multiprocessors int
	PCI             string // as 0000:3b:00.0: the same GPU for every process of the node
}

// Numbers of cudaDeviceAttr.
const (
	attributeMultiprocessors = 16
	attributeMajor           = 75
	attributeMinor           = 76
)

// Properties returns those of a device.
func (r *Runtime) Properties(device int) (Properties, error) {
	var p Properties
	for _, a := range []struct {
		to    *int
		which C.int
	}{{&p.Major, attributeMajor}, {&p.Minor, attributeMinor}, {&p.Multiprocessors, attributeMultiprocessors}} {
		n := C.attribute(r.api, a.which, C.int(device))
		if err := r.check("cudaDeviceGetAttribute", n.rc); err != nil {
			return Properties{}, err
		}
		*a.to = int(n.value)
	}
	var id [32]C.char
	if err := r.check("cudaDeviceGetPCIBusId", C.bus_id(r.api, &id[0], C.int(len(id)), C.int(device))); err != nil {
		return Properties{}, err
	}
	p.PCI = C.GoString(&id[0])
	return p, nil
}

// Memory returns the bytes of the current device, free and in all.
func (r *Runtime) Memory() (free, total int64, err error) {
	m := C.mem_info(r.api)
	return int64(m.free), int64(m.total), r.check("cudaMemGetInfo", m.rc)
}

// Synchronize waits for everything on the current device.
func (r *Runtime) Synchronize() error {
	return r.check("cudaDeviceSynchronize", C.device_synchronize(r.api))
}

// CopyAsync copies bytes between any two of device and host memory when the stream comes to it. Pageable host memory makes it wait.
func (r *Runtime) CopyAsync(to, from uintptr, bytes int, s Stream) error {
	return r.check("cudaMemcpyAsync", C.copy_async(r.api, C.uintptr_t(to), C.uintptr_t(from), C.size_t(bytes), C.uintptr_t(s)))
}

// Alloc returns memory of the current device, for Free.
func (r *Runtime) Alloc(bytes int) (uintptr, error) {
	a := C.mem_alloc(r.api, C.size_t(bytes))
	return uintptr(a.at), r.check("cudaMalloc", a.rc)
}

// Free frees what Alloc returned; it waits for the device.
func (r *Runtime) Free(p uintptr) error {
	return r.check("cudaFree", C.mem_free(r.api, C.uintptr_t(p)))
}

// AllocHost returns pinned host memory, for FreeHost.
func (r *Runtime) AllocHost(bytes int) (uintptr, error) {
	a := C.host_alloc(r.api, C.size_t(bytes))
	return uintptr(a.at), r.check("cudaMallocHost", a.rc)
}

// FreeHost frees what AllocHost returned.
func (r *Runtime) FreeHost(p uintptr) error {
	return r.check("cudaFreeHost", C.host_free(r.api, C.uintptr_t(p)))
}

// Stream is a cudaStream_t, a queue of work in order; 0 is the default stream.
type Stream uintptr

const nonBlocking = 1 // cudaStreamNonBlocking

// NewStream makes a stream on the current device that does not wait for the default stream. A high one comes first where both have
// work: a bucket's kernel need not queue behind backward's.
func (r *Runtime) NewStream(high bool) (Stream, error) {
	priority := C.int(0)
	if high {
		best := C.best_priority(r.api)
		if err := r.check("cudaDeviceGetStreamPriorityRange", best.rc); err != nil {
			return 0, err
		}
		priority = best.value
	}
	a := C.stream_create(r.api, nonBlocking, priority)
	return Stream(a.at), r.check("cudaStreamCreateWithPriority", a.rc)
}

// DestroyStream lets go of a stream; what is on it still runs.
func (r *Runtime) DestroyStream(s Stream) error {
	return r.check("cudaStreamDestroy", C.stream_destroy(r.api, C.uintptr_t(s)))
}

// StreamSynchronize waits until the stream is empty.
func (r *Runtime) StreamSynchronize(s Stream) error {
	return r.check("cudaStreamSynchronize", C.stream_synchronize(r.api, C.uintptr_t(s)))
}

// StreamDone tells whether the stream is empty, without waiting.
func (r *Runtime) StreamDone(s Stream) (bool, error) {
	return r.done("cudaStreamQuery", C.stream_query(r.api, C.uintptr_t(s)))
}

// StreamWait makes what comes later on s wait for e as it was last recorded; an event that never was delays nothing. The host
// does not wait.
func (r *Runtime) StreamWait(s Stream, e Event) error {
	return r.check("cudaStreamWaitEvent", C.stream_wait(r.api, C.uintptr_t(s), C.uintptr_t(e)))
}

// Event is a cudaEvent_t, a mark on a stream.
type Event uintptr

const disableTiming = 2 // cudaEventDisableTiming

// NewEvent makes an event; one without timing is cheaper.
func (r *Runtime) NewEvent(timing bool) (Event, error) {
	flags := C.uint(disableTiming)
	if timing {
		flags = 0
	}
	a := C.event_create(r.api, flags)
	return Event(a.at), r.check("cudaEventCreateWithFlags", a.rc)
}

// DestroyEvent frees an event; what waits for it still does.
func (r *Runtime) DestroyEvent(e Event) error {
	return r.check("cudaEventDestroy", C.event_destroy(r.api, C.uintptr_t(e)))
}

// Record marks the place that s has come to; the event's earlier mark is gone.
func (r *Runtime) Record(e Event, s Stream) error {
	return r.check("cudaEventRecord", C.event_record(r.api, C.uintptr_t(e), C.uintptr_t(s)))
}

// EventDone tells whether the stream has passed the mark, without waiting; an event that was never recorded is.
func (r *Runtime) EventDone(e Event) (bool, error) {
	return r.done("cudaEventQuery", C.event_query(r.api, C.uintptr_t(e)))
}

// EventSynchronize waits until the stream has passed the mark.
func (r *Runtime) EventSynchronize(e Event) error {
	return r.check("cudaEventSynchronize", C.event_synchronize(r.api, C.uintptr_t(e)))
}

// Elapsed is the time between two marks that were passed, of events with timing.
func (r *Runtime) Elapsed(from, to Event) (time.Duration, error) {
	t := C.event_elapsed(r.api, C.uintptr_t(from), C.uintptr_t(to))
	return time.Duration(float64(t.ms) * float64(time.Millisecond)), r.check("cudaEventElapsedTime", t.rc)
}

func (r *Runtime) done(call string, rc C.int) (bool, error) {
	if Code(rc) == codeNotReady {
		C.clear_error(r.api)
		return false, nil
	}
	return rc == 0, r.check(call, rc)
}

func (r *Runtime) check(call string, rc C.int) error {
	if rc == 0 {
		return nil
	}
	C.clear_error(r.api)
	return &Error{call, Code(rc), C.GoString(C.error_name(r.api, rc)), C.GoString(C.error_string(r.api, rc)), hint(Code(rc))}
}
