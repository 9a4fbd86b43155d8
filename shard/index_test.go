package shard

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIndexRefuses(t *testing.T) {
	report, _ := corpusOf(t, someText(4), nil)
	path := filepath.Join(report.Dir, indexName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ old, new, want string }{
		{`"version": 2`, `"version": 3`, "version 3"},
		{`"ddprun-shards"`, `"other"`, "other"},
		{`"shard-00000-00000.bin"`, `"../../etc/passwd"`, "passwd"},
		{`"vocab_size": 30000`, `"vocab_size": 30001`, "digest"},
		{`"vocab_size": 30000`, `"vocab_size": -5`, "vocabulary of -5"},
		{`"text_unit": "paragraph"`, `"text_unit": "line"`, "digest"},
		{`"digest": "`, `"digest": "z`, "digest"},
		{`"crc32c": "`, `"crc32c": "0`, "checksum"},
		{`"tokens": `, `"tokens": 1`, "counts"},
	} {
		bad := strings.Replace(string(good), test.old, test.new, 1)
		if bad == string(good) {
			t.Fatalf("%s is not in the index", test.old)
		}
		writeFile(t, path, bad)
		wantError(t, touchAll(report.Dir, VerifyFirstUse), report.Dir, test.want)
	}
	for n := range good[:len(good)-2] {
		if _, err := parseIndex(good[:n]); err == nil {
			t.Fatalf("an index cut to %d of %d bytes was taken", n, len(good))
		}
	}
}

func FuzzIndex(f *testing.F) {
	report, _ := corpusOf(f, someText(6), nil)
	good, err := os.ReadFile(filepath.Join(report.Dir, indexName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":"ddprun-shards","version":2,"shards":[{}],"sources":[{}]}`))
	f.Add([]byte(`{"format":"ddprun-shards","version":2,"vocab_size":1e99}`))
	f.Add([]byte(`[]`))
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		f.Add(mutate(good, r.Uint32(), []byte(fmt.Sprint(r.Int64())), r.IntN(5) == 0))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := parseIndex(data)
		if err != nil {
			return
		}
		for i := range x.Shards {
			if h := x.header(i); h.layout().end != x.Shards[i].Bytes {
				t.Fatalf("shard %d", i)
			}
		}
	})
}
