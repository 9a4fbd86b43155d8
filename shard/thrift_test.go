package shard

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestThriftBytes(t *testing.T) {
	for _, c := range []struct {
		name, in string
		n        int
		err      error
	}{
		{"empty", "\x00rest", 1, nil},
		{"numbers", "\x15\x02\x16\x80\x01\x00", 6, nil},
		{"booleans", "\x11\x12\x00", 3, nil},
		{"a field far off", "\x05\x80\x02\x02\x00", 5, nil},
		{"bytes", "\x18\x03abc\x00", 6, nil},
		{"a list", "\x19\x25\x02\x04\x00", 5, nil},
		{"a map", "\x1b\x01\x58\x02\x01x\x00", 7, nil},
		{"a structure", "\x1c\x15\x02\x00\x00", 5, nil},
		{"no end", "\x15\x02", 0, io.ErrUnexpectedEOF},
		{"bytes that are not there", "\x18\xff\xff\xff\xff\x07abc", 0, io.ErrUnexpectedEOF},
		{"a list that is not there", "\x19\xf5\xff\xff\xff\xff\x07\x02", 0, io.ErrUnexpectedEOF},
		{"booleans without end", "\x1b\xff\xff\xff\xff\x07\x11\x00", 0, errThrift},
		{"an unknown type", "\x1e\x00", 0, errThrift},
		{"too deep", strings.Repeat("\x1c", 1000), 0, errThrift},
		{"lists too deep", strings.Repeat("\x19", 1000), 0, errThrift},
	} {
		n, err := thriftBytes([]byte(c.in))
		if !errors.Is(err, c.err) || err == nil && n != c.n {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, n, err, c.n, c.err)
		}
	}
}
