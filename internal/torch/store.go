package torch

// #include <stdint.h>
// #include <stdlib.h>
import "C"

import (
	"runtime/cgo"
	"time"
	"unsafe"
)

// Store is where ranks meet: the few operations of c10d's store that Gloo needs. It is called on libtorch's threads, several at
// a time. Get waits until the key is set, at most timeout.
type Store interface {
	Set(key string, value []byte) error
	Get(key string, timeout time.Duration) ([]byte, error)
	Add(key string, delta int64) (int64, error)
	Check(keys []string) (bool, error)
	Delete(key string) (bool, error)
}

func storeOf(h C.uintptr_t) Store { return cgo.Handle(h).Value().(Store) }

func message(err error) *C.char {
	if err == nil {
		return nil
	}
	return C.CString(err.Error())
}

//export ddprunStoreSet
func ddprunStoreSet(h C.uintptr_t, key *C.char, nkey C.int64_t, val *C.char, nval C.int64_t) *C.char {
	return message(storeOf(h).Set(C.GoStringN(key, C.int(nkey)), C.GoBytes(unsafe.Pointer(val), C.int(nval))))
}

//export ddprunStoreGet
func ddprunStoreGet(h C.uintptr_t, key *C.char, nkey, timeoutMS C.int64_t, val **C.char, nval *C.int64_t) *C.char {
	b, err := storeOf(h).Get(C.GoStringN(key, C.int(nkey)), time.Duration(timeoutMS)*time.Millisecond)
	if err != nil {
		return message(err)
	}
	*val, *nval = (*C.char)(C.CBytes(b)), C.int64_t(len(b))
	return nil
}

//export ddprunStoreAdd
func ddprunStoreAdd(h C.uintptr_t, key *C.char, nkey, delta C.int64_t, out *C.int64_t) *C.char {
	n, err := storeOf(h).Add(C.GoStringN(key, C.int(nkey)), int64(delta))
	*out = C.int64_t(n)
	return message(err)
}

//export ddprunStoreDelete
func ddprunStoreDelete(h C.uintptr_t, key *C.char, nkey C.int64_t, out *C.int) *C.char {
	ok, err := storeOf(h).Delete(C.GoStringN(key, C.int(nkey)))
	*out = cBool(ok)
	return message(err)
}

//export ddprunStoreCheck
func ddprunStoreCheck(h C.uintptr_t, key *C.char, nkey C.int64_t, out *C.int) *C.char {
	ok, err := storeOf(h).Check([]string{C.GoStringN(key, C.int(nkey))})
	*out = cBool(ok)
	return message(err)
}

func cBool(b bool) C.int {
	if b {
		return 1
	}
	return 0
}
