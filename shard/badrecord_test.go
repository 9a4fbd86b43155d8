package shard

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestBadRecord(t *testing.T) {
	for _, c := range []struct {
		bad  BadRecord
		want string
	}{
		{BadRecord{Path: "a.jsonl", Offset: 7, Line: 2, Reason: ReasonNoField, Detail: `no "text"`, Hint: "set text_field"},
			`shard: a.jsonl: no field at byte 7, line 2: no "text"; set text_field`},
		{BadRecord{Path: "a.gz", Offset: 0, Reason: ReasonTruncated, Err: io.ErrUnexpectedEOF},
			"shard: a.gz: truncated archive at byte 0: unexpected EOF"},
		{BadRecord{Path: "a.PARQUET", Offset: -1, Line: 3, Reason: ReasonNotUTF8}, "shard: a.PARQUET: not UTF-8 in row 3"},
		{BadRecord{Path: "a.txt", Offset: -1, Reason: ReasonVanished}, "shard: a.txt: vanished"},
	} {
		err := fmt.Errorf("outer: %w", &c.bad)
		var bad *BadRecord
		if !errors.As(err, &bad) || bad.Error() != c.want || errors.Is(err, io.ErrUnexpectedEOF) != (c.bad.Err != nil) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
