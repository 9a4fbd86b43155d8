package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// quick is a Store that gives up soon.
func quick(t *testing.T) *Store {
	s := New()
	s.stall, s.pause, s.tries = 150*time.Millisecond, time.Millisecond, 4
	t.Cleanup(func() { s.Close() })
	return s
}

func content(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// serve answers with data; fault may answer in its place, and says whether it has. n counts the answers from 1.
func serve(t *testing.T, data []byte, fault func(n int64, w http.ResponseWriter, r *http.Request) bool) (address string, answers *atomic.Int64) {
	answers = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := answers.Add(1)
		w.Header().Set("ETag", `"one"`)
		if fault == nil || !fault(n, w, r) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/corpus.txt", answers
}

func readAll(s *Store, name string) ([]byte, error) {
	f, err := s.Open(context.Background(), name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// part sends some bytes of what was asked for and then cuts the connection, or lets it stand.
func part(w http.ResponseWriter, r *http.Request, data []byte, n int, stand bool) {
	var from int
	fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
	w.Header().Set("Content-Length", fmt.Sprint(len(data)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(data[from:min(from+n, len(data))])
	w.(http.Flusher).Flush()
	if stand {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

func TestWebFaultsAreOvercome(t *testing.T) {
	data := content(300_000)
	for name, fault := range map[string]func(n int64, w http.ResponseWriter, r *http.Request) bool{
		"none": nil,
		"cut again and again": func(n int64, w http.ResponseWriter, r *http.Request) bool {
			if n > 1 && n < 12 {
				part(w, r, data, 20_000, false)
			}
			return false
		},
		"stands still": func(n int64, w http.ResponseWriter, r *http.Request) bool {
			if n > 1 && n < 4 {
				part(w, r, data, 50_000, true)
			}
			return false
		},
		"answers 503": func(n int64, w http.ResponseWriter, _ *http.Request) bool {
			if n < 4 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return n < 4
		},
		"no ranges, and cut": func(n int64, w http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			if n == 2 {
				part(w, r, data, 100_000, false)
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := serve(t, data, fault)
			got, err := readAll(quick(t), address)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("read %d bytes of %d, equal: %t, %v", len(got), len(data), bytes.Equal(got, data), err)
			}
		})
	}
}

func TestWebFaultsAreNamed(t *testing.T) {
	data := content(100_000)
	status := func(code int) func(int64, http.ResponseWriter, *http.Request) bool {
		return func(_ int64, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true }
	}
	for name, c := range map[string]struct {
		fault func(n int64, w http.ResponseWriter, r *http.Request) bool
		want  string
		most  int64 // answers that were asked for
	}{
		"missing":   {status(404), "there is no such object", 1},
		"forbidden": {status(403), "credentials are missing, expired or not allowed", 1},
		"broken":    {status(500), "given up after 4 tries: the server answers 500", 4},
		"another version": {func(n int64, w http.ResponseWriter, _ *http.Request) bool {
			if n > 1 {
				w.Header().Set("ETag", `"two"`)
			}
			return false
		}, "changed while it was being read", 2},
		"another version behind a cut": {func(n int64, w http.ResponseWriter, r *http.Request) bool {
			if n == 2 {
				part(w, r, data, 10_000, false)
			}
			if n > 2 {
				w.Header().Set("ETag", `"two"`)
			}
			return false
		}, "changed while it was being read", 3},
		"always short": {func(n int64, w http.ResponseWriter, r *http.Request) bool {
			if n > 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				r.Header.Del("Range")
				w.Write(data[:1000])
				panic(http.ErrAbortHandler)
			}
			return false
		}, "given up after 4 tries", 6},
		"another length": {func(n int64, w http.ResponseWriter, _ *http.Request) bool {
			if n > 1 {
				w.Write(data[:500])
			}
			return n > 1
		}, "changed while it was being read", 2},
		"no version": {func(_ int64, w http.ResponseWriter, _ *http.Request) bool { w.Header().Del("ETag"); return false }, "neither ETag nor Last-Modified", 1},
	} {
		t.Run(name, func(t *testing.T) {
			address, answers := serve(t, data, c.fault)
			_, err := readAll(quick(t), address)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), address) {
				t.Errorf("error %v; want %q and the address", err, c.want)
			}
			if n := answers.Load(); n > c.most {
				t.Errorf("asked %d times; want at most %d", n, c.most)
			}
		})
	}
}

func TestReadAt(t *testing.T) {
	data := content(50_000)
	address, _ := serve(t, data, func(n int64, w http.ResponseWriter, r *http.Request) bool {
		if n%3 == 2 {
			w.WriteHeader(http.StatusBadGateway)
		}
		return n%3 == 2
	})
	f, err := quick(t).Open(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range [][2]int{{0, 10}, {49_990, 10}, {12_345, 20_000}, {0, 50_000}} {
		got := make([]byte, c[1])
		if n, err := f.ReadAt(got, int64(c[0])); n != c[1] || err != nil || !bytes.Equal(got, data[c[0]:c[0]+c[1]]) {
			t.Errorf("ReadAt(%d, %d): %d bytes, %v", c[0], c[1], n, err)
		}
	}
	if n, err := f.ReadAt(make([]byte, 20), 49_990); n != 10 || err != io.EOF {
		t.Errorf("over the end: %d, %v", n, err)
	}
}

func TestCancelEndsReading(t *testing.T) {
	data := content(100_000)
	address, _ := serve(t, data, func(n int64, w http.ResponseWriter, r *http.Request) bool {
		if n > 1 {
			part(w, r, data, 10, true)
		}
		return false
	})
	s := quick(t)
	s.stall = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	f, err := s.Open(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := io.ReadAll(f); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want that of the context", err)
	}
}

// No error shows a secret: not that of a URL that holds one, nor that of a redirection to a signed one.
func TestSecretsStayHidden(t *testing.T) {
	const secret = "5ecr3t"
	ctx := context.Background()
	for _, url := range []string{"https://me:" + secret + "@host/a.txt", "https://host/a.txt?X-Amz-Signature=" + secret, "s3://b/k?X-Amz-Security-Token=" + secret,
		"https://acc.blob.core.windows.net/c/a.txt?sv=1&sig=" + secret, "https://host/a.txt?token=" + secret, "https://host/a.txt?%zz" + secret} {
		if _, err := quick(t).List(ctx, url, nil); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error %v", url, err)
		}
	}
	address, _ := serve(t, nil, func(_ int64, w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "http://u:"+secret+"@127.0.0.1:1/x?X-Amz-Signature="+secret, http.StatusFound)
		return true
	})
	if _, err := readAll(quick(t), address); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("redirection: error %v", err)
	}
}

func TestWebServersAreNotListed(t *testing.T) {
	for _, url := range []string{"https://host/dir/", "https://host/*.txt", "https:///a.txt"} {
		if _, err := quick(t).List(context.Background(), url, nil); err == nil {
			t.Errorf("%s was taken", url)
		}
	}
}
