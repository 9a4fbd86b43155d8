package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a configuration file. A flat file needs three levels (key, set name, list of paths).
const (
	maxFileBytes = 1 << 20
	maxDepth     = 16
)

// readDocument returns the top-level mapping of a YAML file, nil if the file has no content.
func readDocument(path string) (*yaml.Node, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot read the configuration: %w", path, errors.Unwrap(err))
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s: is a directory; name the configuration file in it", path)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot read the configuration: %w", path, errors.Unwrap(err))
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: cannot read the configuration: %w", path, err)
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("%s: is larger than 1 MiB; is it really the configuration?", path)
	}
	return parseDocument(path, text)
}

func parseDocument(path string, text []byte) (*yaml.Node, error) {
	top, err := parseYAML(path, text)
	if err != nil || top == nil {
		return nil, err
	}
	if top = resolve(top); top.Kind == yaml.ScalarNode && top.ShortTag() == "!!null" {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: want lines of the form \"key: value\", got %s", path, top.Line, describe(top))
	}
	return top, nil
}

// parseYAML returns the content of the only document in text, nil if there is none. Its size is bounded even with
// aliases replaced by what they stand for.
func parseYAML(name string, text []byte) (*yaml.Node, error) {
	if line := lineOfBadUTF8(text); line > 0 {
		return nil, fmt.Errorf("%s:%d: not UTF-8 text", name, line)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, syntaxError(name, text, err)
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, fmt.Errorf("%s:%d: a second YAML document begins here; one file holds one configuration", name, second.Line)
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(name, text, err)
	}
	top, budget := doc.Content[0], maxFileBytes
	if err := checkSize(top, 0, &budget); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", name, top.Line, err)
	}
	return top, nil
}

// checkSize refuses what grows beyond the file's bound when aliases are replaced by what they stand for ("billion
// laughs"), and what refers to itself.
func checkSize(n *yaml.Node, depth int, budget *int) error {
	if *budget -= len(n.Value) + 1; *budget < 0 {
		return errors.New("aliases expand to more than 1 MiB")
	}
	if depth > maxDepth {
		return fmt.Errorf("values are nested more than %d deep (an alias inside its own anchor?)", maxDepth)
	}
	if n.Kind == yaml.AliasNode {
		return checkSize(n.Alias, depth+1, budget)
	}
	for _, child := range n.Content {
		if err := checkSize(child, depth+1, budget); err != nil {
			return err
		}
	}
	return nil
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// describe names a value in an error message.
func describe(n *yaml.Node) string {
	switch n = resolve(n); n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	value := n.Value
	if len(value) > 60 {
		value = strings.ToValidUTF8(value[:60], "") + "..."
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str":
		return "the text " + strconv.Quote(value)
	case "!!int", "!!float":
		return "the number " + value
	case "!!bool":
		return value
	case "!!timestamp":
		return "the date " + value
	}
	return fmt.Sprintf("%s with the tag %q", strconv.Quote(value), n.Tag)
}

// pairs calls visit for every key of a mapping. A key that is no plain word, stands twice, or merges another map is an
// error at its line.
func pairs(n *yaml.Node, src source, visit func(key string, keyNode, value *yaml.Node)) []error {
	var errs []error
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		keyNode := n.Content[i]
		word := resolve(keyNode)
		switch line, twice := first[word.Value]; {
		case word.Kind != yaml.ScalarNode:
			errs = append(errs, fmt.Errorf("%s: want a word as key, got %s", src.at(keyNode), describe(word)))
		case word.ShortTag() == "!!merge":
			errs = append(errs, fmt.Errorf("%s: merge keys (<<) are not supported; write the keys out", src.at(keyNode)))
		case twice && src.lines:
			errs = append(errs, fmt.Errorf("%s: %s: stands twice, first in line %d; keep one", src.at(keyNode), word.Value, line))
		case twice:
			errs = append(errs, fmt.Errorf("%s: %s: stands twice; keep one", src.at(keyNode), word.Value))
		default:
			first[word.Value] = keyNode.Line
			visit(word.Value, keyNode, n.Content[i+1])
		}
	}
	return errs
}
