package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxThriftDepth is how deep structures may lie in each other; Parquet's are about six deep.
const maxThriftDepth = 32

// thriftBytes returns how many bytes the structure takes that b begins with, in Thrift's compact protocol, or io.ErrUnexpectedEOF where it goes
// on behind b. parquet-go believes the counts that it reads: it takes memory, or counts to 2^31, for what is not there. So what it is
// given has been through here, where every element takes a byte at least.
func thriftBytes(b []byte) (int, error) {
	t := thriftWalk{b: b}
	err := t.structure(0)
	return t.at, err
}

type thriftWalk struct {
	b  []byte
	at int
}

var errThrift = errors.New("a damaged description")

func (t *thriftWalk) structure(depth int) error {
	if depth > maxThriftDepth {
		return errThrift
	}
	for {
		head, err := t.byte()
		if err != nil || head == 0 {
			return err
		}
		if head>>4 == 0 { // the field's number follows
			if _, err := t.varint(); err != nil {
				return err
			}
		}
		if kind := head & 0xF; kind == thriftTrue || kind == thriftFalse {
			continue // the value is the type
		} else if err := t.value(kind, depth); err != nil {
			return err
		}
	}
}

// Types of Thrift's compact protocol.
const (
	thriftTrue = iota + 1
	thriftFalse
	thriftI8
	thriftI16
	thriftI32
	thriftI64
	thriftDouble
	thriftBinary
	thriftList
	thriftSet
	thriftMap
	thriftStruct
)

func (t *thriftWalk) value(kind byte, depth int) error {
	switch kind {
	case thriftI8:
		return t.pass(1)
	case thriftI16, thriftI32, thriftI64:
		_, err := t.varint()
		return err
	case thriftDouble:
		return t.pass(8)
	case thriftBinary:
		n, err := t.varint()
		if err != nil {
			return err
		}
		return t.pass(n)
	case thriftList, thriftSet:
		head, err := t.byte()
		if err != nil {
			return err
		}
		n := uint64(head >> 4)
		if n == 15 {
			if n, err = t.varint(); err != nil {
				return err
			}
		}
		return t.elements(n, depth, head&0xF)
	case thriftMap:
		n, err := t.varint()
		if err != nil || n == 0 {
			return err
		}
		head, err := t.byte()
		if err != nil {
			return err
		}
		return t.elements(n, depth, head>>4, head&0xF)
	case thriftStruct:
		return t.structure(depth + 1)
	}
	return fmt.Errorf("%w: type %d", errThrift, kind)
}

// elements passes over n times one value of each kind. Parquet has no booleans among them, which parquet-go passes over without
// reading.
func (t *thriftWalk) elements(n uint64, depth int, kinds ...byte) error {
	if depth > maxThriftDepth {
		return errThrift
	}
	for range n {
		for _, kind := range kinds {
			if kind == thriftTrue || kind == thriftFalse {
				return fmt.Errorf("%w: booleans in a list", errThrift)
			}
			if err := t.value(kind, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *thriftWalk) byte() (byte, error) {
	if t.at >= len(t.b) {
		return 0, io.ErrUnexpectedEOF
	}
	t.at++
	return t.b[t.at-1], nil
}

func (t *thriftWalk) varint() (uint64, error) {
	n, size := binary.Uvarint(t.b[t.at:])
	if size < 0 {
		return 0, errThrift
	}
	if size == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	t.at += size
	return n, nil
}

func (t *thriftWalk) pass(n uint64) error {
	if n > uint64(len(t.b)-t.at) {
		return io.ErrUnexpectedEOF
	}
	t.at += int(n)
	return nil
}
