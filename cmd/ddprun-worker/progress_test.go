package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/shard"
)

func TestProgressInALog(t *testing.T) {
	var out bytes.Buffer
	clock := time.Unix(1000, 0)
	p := newProgress(&out, zerolog.New(&out))
	p.now = func() time.Time { return clock }
	for second := range 45 {
		clock = time.Unix(1000+int64(second), 0)
		now := shard.Progress{Hashing: second < 12, Bytes: int64(second%12) * 1e6, TotalBytes: 60e6, Parts: 1, TotalParts: 3}
		if second >= 12 {
			now.Bytes, now.Documents, now.Tokens = int64(second-12)*1e6, 5, 70
		}
		p.show(now)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		`{"level":"info","done":"10.0 MB of 60.0 MB","per_second":"1.0 MB","left":"50s","message":"reading the text"}`,
		`{"level":"info","done":"10.0 MB of 60.0 MB","per_second":"1.0 MB","left":"50s","documents":5,"tokens":70,"parts":"1 of 3","message":"preparing the text"}`,
	}
	if len(lines) != 4 || lines[0] != want[0] || lines[1] != want[1] {
		t.Errorf("%s", out.String())
	}
}

func TestProgressOnATerminal(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, zerolog.Nop())
	p.tty = &out
	p.show(shard.Progress{Hashing: true, Bytes: 5, TotalBytes: 10})
	p.show(shard.Progress{Bytes: 250e6, TotalBytes: 1000e6})
	p.clear()
	for _, want := range []string{"reading the text", "preparing the text", "25%"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q does not say %q", out.String(), want)
		}
	}
}

func TestSize(t *testing.T) {
	for want, bytes := range map[string]int64{"0 B": 0, "999 B": 999, "1.0 kB": 1000, "12.3 MB": 12_345_678, "5.0 GB": 5e9} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}
