package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// webFile is a file of a web server. It is looked at by asking for its first byte, since not every server that answers GET
// answers HEAD.
type webFile struct {
	client *http.Client
	url    string
}

func (f *webFile) get(ctx context.Context, v version, ranges string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return nil, &failure{err: err}
	}
	request.Header.Set("Accept-Encoding", "identity") // the bytes as they lie
	if ranges != "" {
		request.Header.Set("Range", ranges)
	}
	if strings.HasPrefix(v.tag, `"`) {
		request.Header.Set("If-Match", v.tag)
	}
	return f.client.Do(request)
}

func (f *webFile) stat(ctx context.Context) (version, error) {
	response, err := f.get(ctx, version{}, "bytes=0-0")
	if err != nil {
		return version{}, err
	}
	defer response.Body.Close()
	v := version{tag: webTag(response), bytes: -1}
	switch response.StatusCode {
	case http.StatusOK:
		v.bytes = response.ContentLength
	case http.StatusPartialContent:
		v.bytes = total(response)
	case http.StatusRequestedRangeNotSatisfiable: // of an empty file
		v.bytes = total(response)
	default:
		return version{}, statusError(response.StatusCode)
	}
	switch {
	case v.bytes < 0:
		return version{}, &failure{err: fmt.Errorf("the server does not say how large it is; download it and name the file")}
	case v.tag == "":
		return version{}, &failure{err: fmt.Errorf("the server gives neither ETag nor Last-Modified, so a change would not be noticed; download it and name the file")}
	}
	return v, nil
}

// webTag tells versions of a file apart.
func webTag(response *http.Response) string {
	if tag := response.Header.Get("ETag"); tag != "" {
		return tag
	}
	return response.Header.Get("Last-Modified")
}

// total is the size that Content-Range gives, or -1.
func total(response *http.Response) int64 {
	_, after, _ := strings.Cut(response.Header.Get("Content-Range"), "/")
	n, err := strconv.ParseInt(after, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func (f *webFile) open(ctx context.Context, v version, offset, length int64) (io.ReadCloser, error) {
	ranges := ""
	if length >= 0 {
		ranges = fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
	} else if offset > 0 {
		ranges = fmt.Sprintf("bytes=%d-", offset)
	}
	response, err := f.get(ctx, v, ranges)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (io.ReadCloser, error) {
		response.Body.Close()
		return nil, err
	}
	if status := response.StatusCode; status == http.StatusRequestedRangeNotSatisfiable {
		return fail(&failure{err: ErrChanged})
	} else if status != http.StatusOK && status != http.StatusPartialContent {
		return fail(statusError(status))
	}
	if webTag(response) != v.tag {
		return fail(&failure{err: ErrChanged})
	}
	if response.StatusCode == http.StatusPartialContent {
		if total(response) != v.bytes || !strings.HasPrefix(response.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)) {
			return fail(&failure{err: ErrChanged})
		}
		return response.Body, nil
	}
	// A server without ranges sends all of it again.
	if response.ContentLength >= 0 && response.ContentLength != v.bytes {
		return fail(&failure{err: ErrChanged})
	}
	if n, err := io.CopyN(io.Discard, response.Body, offset); err != nil {
		return fail(fmt.Errorf("the connection ended at byte %d of %d: %w", n, v.bytes, err))
	}
	return response.Body, nil
}
