package config

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Print writes every key with its value, and where that comes from as a comment. What it writes can be read by Load again
// and then means the same.
func (l *Loaded) Print(w io.Writer) error {
	value := reflect.ValueOf(l.Config).Elem()
	for _, f := range fields {
		text, err := flow(value.Field(f.index).Interface())
		if err != nil {
			return fmt.Errorf("print %s: %w", f.key, err)
		}
		if _, err := fmt.Fprintf(w, "%-45s # %s\n", f.key+": "+text, l.Sources[f.key]); err != nil {
			return fmt.Errorf("print the configuration: %w", err)
		}
	}
	return nil
}

// flow is a value as YAML on one line: JSON, but for evaluation sets, which train.yaml writes as a map.
func flow(value any) (string, error) {
	sets, isEvalData := value.(EvalData)
	if !isEvalData {
		text, err := json.Marshal(value)
		return string(text), err
	}
	var items []string
	for _, set := range sets {
		paths, err := json.Marshal(set.Paths)
		if err != nil || set.Name == "" {
			return string(paths), err
		}
		items = append(items, fmt.Sprintf("%q: %s", set.Name, paths))
	}
	if items == nil {
		return "null", nil
	}
	return "{" + strings.Join(items, ", ") + "}", nil
}
