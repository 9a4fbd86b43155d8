package pipe

import (
	"errors"
	"slices"
	"syscall"
)

// passing is what the kernel says while a network, a file system on it, or the room for a process is wanting: for a while, as far as it knows.
var passing = []syscall.Errno{
	syscall.EIO, syscall.EREMOTEIO, syscall.ESTALE, syscall.ENOLINK, syscall.ECOMM, syscall.ESHUTDOWN, syscall.ENOTCONN,
	syscall.ETIMEDOUT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENONET, syscall.ENETDOWN, syscall.ENETUNREACH, syscall.ENETRESET,
	syscall.ECONNRESET, syscall.ECONNABORTED, syscall.ECONNREFUSED, syscall.EAGAIN, syscall.EINTR, syscall.ENOMEM, syscall.ENFILE,
}

// Passing tells whether an error may be gone the next time, though nobody has mended anything. Neither is it a wrong input then, nor would starting again fail the same way:
// the budget of restarts says how often that is tried.
func Passing(err error) bool {
	return slices.ContainsFunc(passing, func(e syscall.Errno) bool { return errors.Is(err, e) })
}
