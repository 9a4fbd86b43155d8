package hf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxKeyBytes bounds a key: names of fields, tensors and tokens are far shorter, and
// errors repeat them.
const maxKeyBytes = 4096

// object is a JSON object that keeps the order of its keys and the spelling of
// its values.
type object struct {
	keys   []string
	values map[string]json.RawMessage
}

// parseObject parses data, which must hold one JSON object and nothing else. A key
// that occurs twice is an error: readers disagree about which one counts.
func parseObject(data []byte) (*object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	token, err := dec.Token()
	if err != nil {
		return nil, jsonError(data, dec, err)
	}
	if token != json.Delim('{') {
		if token == nil {
			token = "null"
		}
		return nil, fmt.Errorf("not a JSON object: it begins with %v", token)
	}
	o := &object{values: map[string]json.RawMessage{}}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, jsonError(data, dec, err)
		}
		key, ok := token.(string)
		if !ok {
			return nil, fmt.Errorf("invalid JSON: a key is %v", token)
		}
		if len(key) > maxKeyBytes {
			return nil, fmt.Errorf("a key is %d bytes long, more than %d; it begins with %.80q", len(key), maxKeyBytes, key)
		}
		if _, twice := o.values[key]; twice {
			return nil, fmt.Errorf("key %q occurs twice", key)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, jsonError(data, dec, err)
		}
		o.keys = append(o.keys, key)
		o.values[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, jsonError(data, dec, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("invalid JSON: there is more after the object's end")
	}
	return o, nil
}

// jsonError adds the line to what encoding/json says.
func jsonError(data []byte, dec *json.Decoder, err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	at := min(int(dec.InputOffset()), len(data))
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) && syntax.Offset > int64(at) {
		at = min(int(syntax.Offset), len(data))
	}
	return fmt.Errorf("invalid JSON near line %d: %w", 1+bytes.Count(data[:at], []byte("\n")), err)
}

// set gives key the value. A new key goes where the order of the keys wants it if
// they are sorted, as transformers writes them, and to the end otherwise.
func (o *object) set(key string, value json.RawMessage) {
	if _, ok := o.values[key]; !ok {
		at := len(o.keys)
		if slices.IsSorted(o.keys) {
			at, _ = slices.BinarySearch(o.keys, key)
		}
		o.keys = slices.Insert(o.keys, at, key)
	}
	o.values[key] = value
}

// encode writes the object as Python's json.dumps(indent=2) and a newline.
func (o *object) encode() ([]byte, error) {
	var compact, out bytes.Buffer
	compact.WriteByte('{')
	for i, key := range o.keys {
		if i > 0 {
			compact.WriteByte(',')
		}
		compact.Write(quote(key))
		compact.WriteByte(':')
		compact.Write(o.values[key])
	}
	compact.WriteByte('}')
	if err := json.Indent(&out, compact.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// quote is s as JSON, without the escapes that json.Marshal adds for HTML.
func quote(s string) []byte {
	data, err := marshal(s)
	if err != nil {
		panic("hf: a string does not marshal: " + strconv.Quote(s)) // cannot happen
	}
	return data
}

// marshal is json.Marshal without its escapes for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
