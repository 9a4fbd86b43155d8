package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"gocloud.dev/blob"
)

// s3Server starts an S3 server on 127.0.0.1 with a bucket "texts", and returns the query that leads to it.
func s3Server(t *testing.T, objects map[string][]byte) (query string, put func(key string, data []byte)) {
	memory := s3mem.New()
	server := httptest.NewServer(gofakes3.New(memory, gofakes3.WithAutoBucket(true)).Server())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	query = "?region=us-east-1&use_path_style=true&endpoint=" + server.URL
	bucket, err := blob.OpenBucket(context.Background(), "s3://texts"+query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bucket.Close() })
	put = func(key string, data []byte) {
		t.Helper()
		if err := bucket.WriteAll(context.Background(), key, data, nil); err != nil {
			t.Fatal(err)
		}
	}
	for key, data := range objects {
		put(key, data)
	}
	return query, put
}

func isText(base string) bool { return path.Ext(base) == ".txt" }

func TestBucketIsListed(t *testing.T) {
	query, _ := s3Server(t, map[string][]byte{"a/1.txt": nil, "a/b/2.txt": nil, "a/b/c/3.txt": nil, "a/10.txt": nil, "a/x.bin": nil, "top.txt": nil})
	s := quick(t)
	for pattern, want := range map[string]string{
		"a/1.txt":       "a/1.txt",
		"a":             "a/1.txt a/10.txt",
		"a/":            "a/1.txt a/10.txt",
		"a/*.txt":       "a/1.txt a/10.txt",
		"a/**/*.txt":    "a/1.txt a/10.txt a/b/2.txt a/b/c/3.txt",
		"a/*/{2,3}.txt": "a/b/2.txt",
		"":              "top.txt",
		"none/*.txt":    "error: matches no object",
		"none":          "error: no such object",
		"a/b/c/4.txt":   "error: no such object",
		"a/[.txt":       "error: bad pattern",
	} {
		names, err := s.List(context.Background(), "s3://texts/"+pattern+query, isText)
		got := strings.ReplaceAll(strings.Join(names, " "), "s3://texts/", "")
		if after, wrong := strings.CutPrefix(want, "error: "); wrong {
			if err == nil || !strings.Contains(err.Error(), after) {
				t.Errorf("%q: %v, %v; want an error with %q", pattern, names, err, after)
			}
		} else if got != want || err != nil || !slices.IsSorted(names) {
			t.Errorf("%q: %q, %v; want %q", pattern, got, err, want)
		}
	}
}

func TestBucketIsRead(t *testing.T) {
	data := content(200_000)
	query, put := s3Server(t, map[string][]byte{"a.txt": data})
	s, ctx := quick(t), context.Background()
	names, err := s.List(ctx, "s3://texts/a.txt"+query, isText)
	if err != nil {
		t.Fatal(err)
	}
	size, tag, err := s.Stat(ctx, names[0])
	if err != nil || size != int64(len(data)) || tag == "" {
		t.Fatalf("size %d, tag %q, %v", size, tag, err)
	}
	f, err := s.Open(ctx, names[0])
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	at := make([]byte, 1000)
	if _, err := f.ReadAt(at, 77_777); err != nil || !bytes.Equal(at, data[77_777:78_777]) {
		t.Errorf("ReadAt: %v", err)
	}
	f.Close()
	put("a.txt", content(200_000-1))
	if _, err := readAll(s, names[0]); !errors.Is(err, ErrChanged) {
		t.Errorf("another version: %v", err)
	}
	if _, now, err := s.Stat(ctx, names[0]); err != nil || now == tag {
		t.Errorf("the tag stays %q, %v", now, err)
	}
}

func TestOneBucketInOneWay(t *testing.T) {
	query, _ := s3Server(t, map[string][]byte{"a.txt": nil})
	s := quick(t)
	if _, err := s.List(context.Background(), "s3://texts/a.txt"+query, isText); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(context.Background(), "s3://texts/a.txt?region=eu-west-1", isText); err == nil {
		t.Error("two queries for one bucket were taken")
	}
}

// servesTexts holds a bucket "texts" of another service than the tests' own server to the same: listed, read, and another version refused.
func servesTexts(t *testing.T, bucket *blob.Bucket, scheme, query string) {
	t.Helper()
	ctx := context.Background()
	put := func(key string, data []byte) {
		if err := bucket.WriteAll(ctx, key, data, nil); err != nil {
			t.Fatal(err)
		}
	}
	data := content(100_000)
	put("d/a.txt", data)
	put("d/b.bin", nil)
	s := quick(t)
	s.stall = 10e9
	names, err := s.List(ctx, scheme+"://texts/d"+query, isText)
	if err != nil || len(names) != 1 || names[0] != scheme+"://texts/d/a.txt" {
		t.Fatalf("%v, %v", names, err)
	}
	if got, err := readAll(s, names[0]); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	put("d/a.txt", data[1:])
	if _, err := readAll(s, names[0]); !errors.Is(err, ErrChanged) {
		t.Errorf("another version: %v", err)
	}
	if _, err := s.List(ctx, scheme+"://texts/none"+query, isText); err == nil {
		t.Error("what is not there was listed")
	}
}
