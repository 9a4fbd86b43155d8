// Package nccl is a thin binding of NVIDIA's collective library. libnccl.so.2 is opened at run time, so that one worker
// runs with and without GPUs; where it is missing or too old, the error says what to install.
//
// # Types
//
// [Open] returns the process's one [Library]: version, unique ids, groups, memory. [Library.NewComm] returns a [Comm], one rank of a
// communicator: collectives, [Comm.Split], asynchronous errors, [Comm.Abort]. [Result] is NCCL's status code as an error, and
// [*Error] is a call that failed, with NCCL's words.
//
//	lib, err := nccl.Open()
//	id, err := lib.NewUniqueID()                   // on one rank; the others get it some other way
//	comm, err := lib.NewComm(id, rank, size, nccl.Config{})
//	err = comm.Await(timeout)                      // until every rank is there
//	err = comm.AllReduce(p, p, n, nccl.Float32, nccl.Sum, nccl.Stream(stream)) // nil, or ErrInProgress: Await
//	err = comm.AsyncError()                        // nil, ErrInProgress, or what went wrong: then Abort
//	err = comm.Finalize(); err = comm.Await(timeout); err = comm.Destroy()
//
// No tensors here: addresses, counts, types and streams.
//
// # Which libnccl
//
// NCCL_LIBRARY names the file. Without it: the one that the process has already (libtorch's, where libtorch_cuda.so is loaded), the
// loader's path, beside libtorch (its lib, and ../../nvidia/nccl/lib), the packages of python3. The process has one: a
// second, other one is refused, so the two open in this order: NCCL_LIBRARY's before libtorch_cuda.so, else after it.
//
// # Threads and ownership
//
//   - All communicators are non-blocking: every call comes back at once, but Await, which polls, and Split, which awaits.
//   - A Comm's collectives are issued by one goroutine at a time, in the same order on every rank. AsyncError, Await and Abort may
//     run beside them in any goroutine. After Abort or Destroy every method returns ErrClosed; both wait for calls
//     under way, which are short.
//   - A Library is safe for any goroutine. A group is a matter of the OS thread: runtime.LockOSThread around it. The CUDA device
//     too: NewComm takes the one that is current on the thread.
//   - Buffers are the caller's, in the device's memory or pinned, never Go's, and stay until the stream has passed the call.
//   - C keeps no Go pointer and calls nothing back. A collective allocates nothing and costs two atomic operations and a cgo call.
//
// # Caveats
//
// What fails behind a call (a peer's death) shows in AsyncError alone, and while nobody aborts, the stream stays where it
// is. NCCL may also notice nothing: a rank that hangs is for a watchdog to see.
//
// Before: nccl/cuda gives streams and events. After: ddp builds its group on both. nccl/loopback is the test double.
package nccl
