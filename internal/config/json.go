package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Decode reads a settled configuration back from its JSON (json.Marshal of a Config): every key has to be there, no other
// may be, and the values are checked again.
func Decode(text []byte) (*Config, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return nil, fmt.Errorf("configuration as JSON: %w", err)
	}
	for _, f := range fields {
		if _, found := keys[f.key]; !found {
			return nil, fmt.Errorf("configuration as JSON: %s: is missing; do ddprun and ddprun-worker come from the same build?", f.key)
		}
	}
	c := &Config{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(c); err != nil {
		return nil, fmt.Errorf("configuration as JSON: %w", err)
	}
	if len(keys) != len(fields) {
		return nil, errors.New("configuration as JSON: a key stands twice, once in another spelling")
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuration as JSON: %w", err)
	}
	return c, nil
}

// Resolved returns every key with its value as JSON has it, for printing and for the checkpoint.
func (c *Config) Resolved() map[string]any {
	resolved := map[string]any{}
	value := reflect.ValueOf(c).Elem()
	for _, f := range fields {
		resolved[f.key] = value.Field(f.index).Interface()
	}
	return resolved
}

// Digest identifies the configuration: two are equal in every key exactly if their digests are. SHA-256 in hexadecimal.
func (c *Config) Digest() string {
	text, err := json.Marshal(c)
	if err != nil {
		panic("config: digest of a configuration that was never validated: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Difference is a key whose value a resumed run has changed, with the values as JSON. One is missing where only the other
// version of ddprun knows the key.
type Difference struct {
	Key      string
	Old, New string
	// Allowed: the change leaves the course of the training so far in force (logging, saving, evaluation, threads,
	// device, length). Any other must be refused.
	Allowed bool
}

// Differences compares the configuration with that of an earlier run, as its checkpoint holds it (the JSON of Resolved),
// and returns what has changed in the order of the keys. A key that the earlier version of ddprun did not have counts as its
// default, which is what that version did.
func (c *Config) Differences(earlier []byte) ([]Difference, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(earlier, &raw); err != nil {
		return nil, fmt.Errorf("configuration of the earlier run: %w", err)
	}
	then := Default()
	if err := json.Unmarshal(earlier, then); err != nil {
		return nil, fmt.Errorf("configuration of the earlier run: %w", err)
	}
	before, err := then.values()
	if err != nil {
		return nil, err
	}
	now, err := c.values()
	if err != nil {
		return nil, err
	}
	var list []Difference
	for _, f := range fields {
		was, is := compact(before[f.key]), compact(now[f.key])
		if was != is {
			list = append(list, Difference{Key: f.key, Old: was, New: is, Allowed: f.resume})
		}
		delete(raw, f.key)
	}
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		list = append(list, Difference{Key: key, Old: compact(raw[key])})
	}
	return list, nil
}

// values returns every key's value as JSON.
func (c *Config) values() (map[string]json.RawMessage, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var values map[string]json.RawMessage
	return values, json.Unmarshal(text, &values)
}

func compact(text json.RawMessage) string {
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		return string(text)
	}
	return out.String()
}
