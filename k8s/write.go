package k8s

import (
	"encoding/json"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// Write prints the manifests as one YAML stream, a document each under its comment.
func Write(w io.Writer, list []Manifest) error {
	for i, m := range list {
		text, err := Marshal(m.Object)
		if err != nil {
			return err
		}
		separator := "---\n"
		if i == 0 {
			separator = ""
		}
		if _, err := fmt.Fprintf(w, "%s# %s\n%s", separator, m.Comment, text); err != nil {
			return err
		}
	}
	return nil
}

// Marshal returns an object as YAML without what the server alone writes: status, which the API's types cannot leave out.
func Marshal(object runtime.Object) ([]byte, error) {
	kind := object.GetObjectKind().GroupVersionKind().Kind
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	delete(fields, "status")
	out, err := yaml.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return out, nil
}

// NewKey reads a run's key from random: 32 bytes in hexadecimal digits.
func NewKey(random io.Reader) (string, error) {
	var raw [32]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", fmt.Errorf("the run's key: %w", err)
	}
	return fmt.Sprintf("%x", raw), nil
}
