package hf

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// ConfigFile is the name of a model's configuration within its directory.
const ConfigFile = "config.json"

// Config is a model's config.json: every field in its order and spelling, whether
// or not this program knows it.
type Config struct {
	path   string
	fields *object
}

// ReadConfig reads the config.json of a model directory.
func ReadConfig(dir string) (*Config, error) {
	path := filepath.Join(dir, ConfigFile)
	data, err := readFile(path, maxConfigBytes)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, missingConfig(dir)
	}
	if err != nil {
		return nil, err
	}
	fields, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Config{path: path, fields: fields}, nil
}

func missingConfig(dir string) error {
	if err := checkDir(dir); err != nil {
		return err
	}
	return fmt.Errorf("model directory %s has no %s: a directory that from_pretrained reads holds %s, "+
		"model.safetensors (or pytorch_model.bin) and the tokenizer's files (tokenizer.json, or vocab.txt)",
		dir, ConfigFile, ConfigFile)
}

// checkDir wants dir to be there, as a directory.
func checkDir(dir string) error {
	switch info, err := os.Stat(dir); {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("model directory %s does not exist", dir)
	case err == nil && !info.IsDir():
		return fmt.Errorf("model directory %s is a file; name the directory that it lies in", dir)
	}
	return nil
}

// Path is the file that the configuration was read from, for messages.
func (c *Config) Path() string { return c.path }

// Keys lists the fields in their order.
func (c *Config) Keys() []string { return slices.Clone(c.fields.keys) }

// Raw is a field as it is spelled in the file; false: there is none.
func (c *Config) Raw(key string) (json.RawMessage, bool) {
	value, ok := c.fields.values[key]
	return slices.Clone(value), ok
}

// get is a field's value unless it is missing or null, which both mean the
// default.
func (c *Config) get(key string) (json.RawMessage, bool) {
	value, ok := c.fields.values[key]
	return value, ok && string(value) != "null"
}

func (c *Config) wrongType(key, want string) error {
	value := string(c.fields.values[key])
	if len(value) > 60 {
		value = value[:60] + "..."
	}
	return fmt.Errorf("%s: %s must be %s, it is %s", c.path, key, want, value)
}

// Int is a whole number, or def where the field is missing or null.
func (c *Config) Int(key string, def int) (int, error) {
	raw, ok := c.get(key)
	if !ok {
		return def, nil
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		return 0, c.wrongType(key, "a whole number")
	}
	return n, nil
}

// Float is a number, or def where the field is missing or null.
func (c *Config) Float(key string, def float64) (float64, error) {
	raw, ok := c.get(key)
	if !ok {
		return def, nil
	}
	var x float64
	if err := json.Unmarshal(raw, &x); err != nil {
		return 0, c.wrongType(key, "a number")
	}
	return x, nil
}

// Bool is true or false, or def where the field is missing or null.
func (c *Config) Bool(key string, def bool) (bool, error) {
	raw, ok := c.get(key)
	if !ok {
		return def, nil
	}
	var b bool
	if err := json.Unmarshal(raw, &b); err != nil {
		return false, c.wrongType(key, "true or false")
	}
	return b, nil
}

// String is a string, or def where the field is missing or null.
func (c *Config) String(key string, def string) (string, error) {
	raw, ok := c.get(key)
	if !ok {
		return def, nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", c.wrongType(key, "a string")
	}
	return s, nil
}

// ModelType is the field that says which family of models this is: bert, t5, ...
func (c *Config) ModelType() (string, error) {
	s, err := c.String("model_type", "")
	if err == nil && s == "" {
		err = fmt.Errorf("%s: model_type is missing; transformers writes it, for instance \"model_type\": \"bert\"", c.path)
	}
	return s, err
}

// Architectures lists the class names of the models that the weights belong to,
// for instance BertForMaskedLM; empty where the field is missing or null.
func (c *Config) Architectures() ([]string, error) {
	raw, ok := c.get("architectures")
	if !ok {
		return nil, nil
	}
	var names []string
	if err := json.Unmarshal(raw, &names); err != nil {
		return nil, c.wrongType("architectures", "a list of strings")
	}
	return names, nil
}

// Set gives a field a value, any that encoding/json takes. A field that is there
// keeps its place.
func (c *Config) Set(key string, value any) error {
	raw, err := marshal(value)
	if err != nil {
		return fmt.Errorf("%s: set %s: %w", c.path, key, err)
	}
	c.fields.set(key, raw)
	return nil
}

// Clone is a copy that Set does not share.
func (c *Config) Clone() *Config {
	values := make(map[string]json.RawMessage, len(c.fields.values))
	for key, value := range c.fields.values {
		values[key] = value
	}
	return &Config{path: c.path, fields: &object{keys: slices.Clone(c.fields.keys), values: values}}
}

// Write writes the configuration to path as transformers does: two spaces of
// indentation and a newline at the end.
func (c *Config) Write(path string) error {
	data, err := c.fields.encode()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, data, 0o644)
}
