package mesh

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFramesPass(t *testing.T) {
	long := json.RawMessage(`"` + strings.Repeat("x", MaxMessageBytes-2) + `"`)
	frames := []frame{{Beat: true}, {Message: json.RawMessage(`{"a":1}`)}, {Message: long}, {Call: &call{ID: 7, Body: long}}, {Bye: true}, {Message: json.RawMessage(`null`)}}
	var stream bytes.Buffer
	for _, f := range frames {
		line, err := encode(f)
		if err != nil {
			t.Fatal(err)
		}
		stream.Write(line)
	}
	for _, r := range []io.Reader{bytes.NewReader(stream.Bytes()), iotest.DataErrReader(bytes.NewReader(stream.Bytes()))} {
		lines := newLineReader(r, maxFrameBytes)
		for i, want := range frames {
			got, err := lines.next()
			if err != nil || got.Beat != want.Beat || got.Bye != want.Bye || !bytes.Equal(got.Message, want.Message) || (got.Call != nil && !bytes.Equal(got.Call.Body, want.Call.Body)) {
				t.Fatalf("line %d: %v", i, err)
			}
		}
		if _, err := lines.next(); err != io.EOF {
			t.Fatal(err)
		}
	}
}

func TestEncodeRefusesLongMessages(t *testing.T) {
	if _, err := encode(frame{Message: json.RawMessage(`"` + strings.Repeat("x", maxFrameBytes) + `"`)}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Fatal(err)
	}
	if _, err := encode(frame{Message: json.RawMessage(`{`)}); err == nil {
		t.Fatal("what is no JSON is sent")
	}
}

func TestReaderBoundsLines(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"message":"`), iotest.OneByteReader(neverEnding('x')))
	if _, err := newLineReader(endless, 10000).next(); err == nil || !strings.Contains(err.Error(), "more than 10000 bytes") {
		t.Fatal(err)
	}
	if _, err := newLineReader(strings.NewReader(`{"beat":true}`), 100).next(); err != io.ErrUnexpectedEOF {
		t.Fatalf("half a line: %v", err)
	}
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

// FuzzReader: no input makes the reader panic, hold more than its limit or return anything but frames and then an error.
func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"hello":{"protocol":1,"id":"0-a","run_id":"r","address":"h:1","hello":{"x":[1]}}}` + "\n"))
	f.Add([]byte("{\"beat\":true}\n{}\n\n{\n"))
	f.Add([]byte(`{"call":{"id":18446744073709551615,"body":null}}` + "\n" + `{"answer":{"id":-1}}` + "\n"))
	f.Add(bytes.Repeat([]byte("x"), 20000))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 10000
		lines := newLineReader(bytes.NewReader(data), limit)
		for n := 0; ; n++ {
			line, err := lines.line()
			if err != nil {
				break
			}
			if len(line) > limit || n > len(data) {
				t.Fatalf("a line of %d bytes, the %dth", len(line), n)
			}
		}
		lines = newLineReader(bytes.NewReader(data), limit)
		for {
			got, err := lines.next()
			if err != nil {
				break
			}
			if _, err := encode(got); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
		}
	})
}
