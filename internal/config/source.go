package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// source says where a value comes from: a file (name and line), an environment variable, or a flag.
type source struct {
	name  string
	lines bool // name is a file
}

// at is how an error or note refers to a node of this source.
func (s source) at(n *yaml.Node) string {
	if !s.lines {
		return s.name
	}
	return fmt.Sprintf("%s:%d", s.name, n.Line)
}

// entry is one key with its value as a source gives them.
type entry struct {
	key   string
	where *yaml.Node // the key's node, for the line
	value *yaml.Node
	raw   string // the whole text of a variable or flag; empty for a file
	src   source
}

func (e entry) at() string { return e.src.at(e.where) }

func (e entry) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", e.at(), e.key, fmt.Errorf(format, args...))
}

// fromText is the entry of a variable or flag. Its value is read as YAML; what is no YAML is text.
func fromText(key, text, name string) entry {
	node, err := parseYAML(name, []byte(text))
	switch {
	case err != nil:
		node = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	case node == nil:
		node = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	}
	if text == "-" { // standard input, which YAML takes for a list of nothing
		node = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: 1, Column: 1}
	}
	return entry{key: key, where: node, value: node, raw: text, src: source{name: name}}
}
