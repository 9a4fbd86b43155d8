package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"gocloud.dev/blob"
)

// File is an opened source. Read streams it from its start; ReadAt may be called by several goroutines.
type File = interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Size() int64
}

// Store reads from every kind of URL. Several goroutines may use it; the caller closes it.
type Store struct {
	stall   time.Duration // without a byte, after which a connection is given up
	pause   time.Duration // before the first new try; each further one doubles it
	tries   int           // in a row without a byte more
	client  *http.Client
	mu      sync.Mutex
	queries map[string]string // of a bucket: how to reach it
	buckets map[string]*blob.Bucket
	seen    map[string]version
}

// version is what Stat saw of a source.
type version struct {
	bytes      int64
	tag        string // entity tag, or what stands in for it
	generation int64  // of Google's
}

// New returns a Store. It connects to nothing yet.
func New() *Store {
	const stall = time.Minute
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = stall
	return &Store{stall: stall, pause: 200 * time.Millisecond, tries: 6, client: &http.Client{Transport: transport},
		queries: map[string]string{}, buckets: map[string]*blob.Bucket{}, seen: map[string]version{}}
}

// schemes are those of buckets, as Go CDK names them.
var schemes = map[string]string{"s3": "s3", "gs": "gs", "az": "azblob"}

// IsURL is the function IsURL.
func (s *Store) IsURL(path string) bool { return IsURL(path) }

// IsURL says whether path is one that a Store reads, rather than a file's.
func IsURL(path string) bool {
	scheme, _, found := strings.Cut(path, "://")
	return found && (schemes[scheme] != "" || scheme == "https" || scheme == "http")
}

// secrets are parameters of a URL that let in whoever has them, in lower case; prefixes of them.
var secrets = []string{"x-amz-", "x-goog-", "awsaccesskeyid", "googleaccessid", "signature", "sig", "token", "access_token", "key", "api_key", "apikey", "password", "secret"}

// checkURL refuses a URL that holds credentials. Its error shows none of them.
func checkURL(raw string) error {
	base, query, _ := strings.Cut(raw, "?")
	scheme, rest, _ := strings.Cut(base, "://")
	authority, _, _ := strings.Cut(rest, "/")
	hint := "checkpoints and indices keep the names of sources; give credentials by the environment (docs/data.md)"
	if strings.Contains(authority, "@") {
		return fmt.Errorf("%s://...@%s: the URL holds credentials, and %s", scheme, rest[strings.LastIndex(authority, "@")+1:], hint)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("%s: what follows the ? is no query", base)
	}
	for name := range values {
		if slices.ContainsFunc(secrets, func(s string) bool {
			return strings.EqualFold(name, s) || strings.HasSuffix(s, "-") && strings.HasPrefix(strings.ToLower(name), s)
		}) {
			return fmt.Errorf("%s: the URL is signed or holds a credential (%s), and %s", base, name, hint)
		}
	}
	return nil
}

// List returns the names of what a URL names, sorted bytewise: a single object or file; the objects that match a pattern (*, [, {, and
// ** over any number of directories); or those directly below a prefix that keep wants by their last element. A bucket's names are
// without the query, which says only how to reach the bucket.
func (s *Store) List(ctx context.Context, pattern string, keep func(base string) bool) ([]string, error) {
	if err := checkURL(pattern); err != nil {
		return nil, err
	}
	base, query, _ := strings.Cut(pattern, "?")
	scheme, rest, _ := strings.Cut(base, "://")
	if schemes[scheme] == "" {
		if u, err := url.Parse(pattern); err != nil || u.Host == "" || strings.HasSuffix(base, "/") || strings.ContainsAny(rest, "*") {
			return nil, fmt.Errorf("%s: a web server does not list its files; name each one", base)
		}
		return []string{pattern}, nil
	}
	place, key, _ := strings.Cut(rest, "/")
	if place == "" {
		return nil, fmt.Errorf("%s names no bucket; it is %s://BUCKET/KEY", base, scheme)
	}
	root := scheme + "://" + place
	bucket, err := s.bucket(ctx, root, &query)
	if err != nil {
		return nil, err
	}
	names, err := s.listBucket(ctx, bucket, root, key, keep)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

func (s *Store) listBucket(ctx context.Context, bucket *blob.Bucket, root, key string, keep func(string) bool) ([]string, error) {
	name := root + "/" + key
	if meta := strings.IndexAny(key, "*[{"); meta >= 0 {
		if !doublestar.ValidatePattern(key) {
			return nil, fmt.Errorf("%s: bad pattern", name)
		}
		names, err := s.walk(ctx, bucket, root, key[:meta], "", func(k string) bool { return doublestar.MatchUnvalidated(key, k) })
		if err == nil && len(names) == 0 {
			err = fmt.Errorf("%s matches no object", name)
		}
		return names, err
	}
	if key != "" && !strings.HasSuffix(key, "/") {
		exists, err := bucket.Exists(ctx, key)
		if err != nil {
			return nil, s.explain(name, bucketError(bucket, err))
		}
		if exists {
			return []string{name}, nil
		}
		key += "/"
	}
	found := 0
	names, err := s.walk(ctx, bucket, root, key, "/", func(k string) bool { found++; return keep(k[len(key):]) })
	switch {
	case err != nil || len(names) > 0:
		return names, err
	case found > 0:
		return nil, fmt.Errorf("%s holds no file of a known ending; name others by a pattern, as in %s*.json", root+"/"+key, root+"/"+key)
	}
	return nil, fmt.Errorf("%s: there is no such object, nor any below it", name)
}

// walk lists the objects whose keys begin with prefix.
func (s *Store) walk(ctx context.Context, bucket *blob.Bucket, root, prefix, delimiter string, want func(key string) bool) ([]string, error) {
	var names []string
	for it := bucket.List(&blob.ListOptions{Prefix: prefix, Delimiter: delimiter}); ; {
		object, err := it.Next(ctx)
		if err == io.EOF {
			return names, nil
		}
		if err != nil {
			return nil, s.explain(root+"/"+prefix, bucketError(bucket, err))
		}
		if !object.IsDir && !strings.HasSuffix(object.Key, "/") && want(object.Key) {
			names = append(names, root+"/"+object.Key)
		}
	}
}

// bucket opens a bucket on first use, by the query with which it was listed.
func (s *Store) bucket(ctx context.Context, root string, query *string) (*blob.Bucket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.buckets[root]; b != nil {
		if query != nil && s.queries[root] != *query {
			return nil, fmt.Errorf("%s is named with two different queries; one bucket is reached in one way", root)
		}
		return b, nil
	}
	if query == nil {
		query = new(string)
	}
	scheme, place, _ := strings.Cut(root, "://")
	target := schemes[scheme] + "://" + place
	if *query != "" {
		target += "?" + *query
	}
	b, err := blob.OpenBucket(ctx, target)
	if err != nil {
		return nil, s.explain(root, &failure{err: err})
	}
	s.buckets[root], s.queries[root] = b, *query
	return b, nil
}

// Stat asks for a source's size in bytes and for what tells its versions apart. From now on Open opens this version.
func (s *Store) Stat(ctx context.Context, name string) (bytes int64, tag string, err error) {
	b, err := s.backend(ctx, name)
	if err != nil {
		return 0, "", err
	}
	var v version
	err = s.retry(ctx, name, func(int) (int, error) {
		ctx, cancel := context.WithTimeout(ctx, s.stall)
		defer cancel()
		v, err = b.stat(ctx)
		return 0, err
	})
	if err != nil {
		return 0, "", err
	}
	s.mu.Lock()
	s.seen[name] = v
	s.mu.Unlock()
	return v.bytes, v.tag, nil
}

// Open opens a source in the version that Stat saw last; ctx ends its reading too. The caller closes it.
func (s *Store) Open(ctx context.Context, name string) (File, error) {
	s.mu.Lock()
	_, known := s.seen[name]
	s.mu.Unlock()
	if !known {
		if _, _, err := s.Stat(ctx, name); err != nil {
			return nil, err
		}
	}
	b, err := s.backend(ctx, name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &object{ctx: ctx, store: s, name: name, backend: b, version: s.seen[name]}, nil
}

// backend is one object or file of some kind of server.
type backend interface {
	stat(ctx context.Context) (version, error)
	// open streams the bytes from offset on, length of them or, if that is negative, all.
	open(ctx context.Context, v version, offset, length int64) (io.ReadCloser, error)
}

func (s *Store) backend(ctx context.Context, name string) (backend, error) {
	scheme, rest, _ := strings.Cut(name, "://")
	if schemes[scheme] == "" {
		return &webFile{s.client, name}, nil
	}
	place, key, _ := strings.Cut(rest, "/")
	b, err := s.bucket(ctx, scheme+"://"+place, nil)
	return &blobObject{b, key}, err
}

// Close closes the buckets.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for root, b := range s.buckets {
		b.Close()
		delete(s.buckets, root)
	}
	s.client.CloseIdleConnections()
	return nil
}
