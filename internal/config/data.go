package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DataOf is the data of paths alone: one stream.
func DataOf(paths ...string) Data { return Data{{Paths: paths, Weight: 1}} }

// Paths are those of all streams.
func (d Data) Paths() []string {
	var all []string
	for _, s := range d {
		all = append(all, s.Paths...)
	}
	return all
}

// Title is the stream's name, or its paths where it has none.
func (s DataStream) Title() string {
	if s.Name != "" {
		return s.Name
	}
	return strings.Join(s.Paths, ", ")
}

// plain tells whether the data are paths and nothing else.
func (d Data) plain() bool {
	return len(d) == 1 && d[0].Name == "" && d[0].Weight == 1 && d[0].Share == 0
}

// MarshalJSON writes paths alone as a list of them, as checkpoints have always had them, and streams as train.yaml does.
func (d Data) MarshalJSON() ([]byte, error) {
	if d.plain() {
		return json.Marshal(d[0].Paths)
	}
	list := []map[string]any{}
	for _, s := range d {
		one := map[string]any{"path": s.Paths}
		if s.Name != "" {
			one["name"] = s.Name
		}
		if s.Share != 0 {
			one["share"] = s.Share
		} else {
			one["weight"] = s.Weight
		}
		list = append(list, one)
	}
	return json.Marshal(list)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *Data) UnmarshalJSON(text []byte) error {
	var paths []string
	if json.Unmarshal(text, &paths) == nil {
		*d = nil
		if paths != nil {
			*d = DataOf(paths...)
		}
		return nil
	}
	var streams []json.RawMessage
	if err := json.Unmarshal(text, &streams); err != nil {
		return err
	}
	*d = nil
	for _, stream := range streams {
		one := DataStream{Weight: 1}
		decoder := json.NewDecoder(bytes.NewReader(stream))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&one); err != nil {
			return err
		}
		*d = append(*d, one)
	}
	return nil
}

// decodeData reads one text, a list of texts, or a list of maps.
func decodeData(e entry, n *yaml.Node) (Data, []error) {
	isMap := func(n *yaml.Node) bool { return resolve(n).Kind == yaml.MappingNode }
	if n.Kind != yaml.SequenceNode || !slices.ContainsFunc(n.Content, isMap) {
		paths, err := decodeStrings(e, n)
		if len(paths) == 0 {
			return nil, asList(err)
		}
		return DataOf(paths...), asList(err)
	}
	var data Data
	var errs []error
	for _, item := range n.Content {
		line := e
		line.where = item
		if !isMap(item) {
			errs = append(errs, line.errorf("want a map such as {path: FILE, weight: 2}, as the others are, got %s", describe(item)))
			continue
		}
		one := DataStream{Weight: 1}
		var paths Strings
		given := map[string]bool{}
		pairs(resolve(item), e.src, func(key string, _, _ *yaml.Node) { given[key] = true })
		errs = append(errs, decodeFields(line, resolve(item), map[string]any{"path": &paths, "name": &one.Name, "weight": &one.Weight, "share": &one.Share})...)
		if given["weight"] && given["share"] {
			errs = append(errs, line.errorf("has both weight and share; keep one"))
		}
		if given["share"] && one.Share == 0 {
			errs = append(errs, line.errorf("share must be above 0"))
		}
		one.Paths = paths
		data = append(data, one)
	}
	return data, errs
}

// checkData refuses streams that cannot be mixed.
func (c *Config) checkData(k *checker) {
	k.want(len(c.Data) > 0, "data", "is required: the text files to train on")
	names := map[string]bool{}
	shares := 0
	for i, s := range c.Data {
		what := ""
		if !c.Data.plain() {
			what = fmt.Sprintf("stream %d: ", i+1)
		}
		k.want(len(s.Paths) > 0 && !slices.Contains(s.Paths, ""), "data", "%sholds an empty path or none", what)
		k.want(s.Name == "" || setName.MatchString(s.Name), "data", "the name %q may hold letters, digits, _, . and - only", s.Name)
		k.want(s.Name == "" || !names[s.Name], "data", "two streams have the name %q", s.Name)
		names[s.Name] = true
		k.number("data", s.Weight, s.Weight > 0 && s.Weight <= maxWeight, fmt.Sprintf("of a weight above 0 and at most %d", maxWeight))
		k.number("data", s.Share, s.Share >= 0 && s.Share <= maxWeight, fmt.Sprintf("of a share above 0 and at most %d", maxWeight))
		if s.Share > 0 {
			shares++
		}
	}
	k.want(shares == 0 || shares == len(c.Data), "data", "%d of %d streams have a share; give it to all of them, or to none", shares, len(c.Data))
}
