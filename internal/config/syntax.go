package config

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)
	// The complaints of yaml.v3's parser, as opposed to its scanner, count lines from 0.
	parserComplaint = regexp.MustCompile(`^did not find expected (<|node content|'-' indicator|key|',' or)`)
	unknownAnchor   = regexp.MustCompile(`^unknown anchor '([^']*)'`)
	tabIndent       = regexp.MustCompile(`^ *\t`)
)

// syntaxError puts the line of a yaml.v3 error where editors look for it, and mends it where yaml.v3 is off.
func syntaxError(name string, text []byte, err error) error {
	message := err.Error()
	match := yamlLine.FindStringSubmatch(message)
	message = message[len(match[0]):]
	line, isNumber := strconv.Atoi(match[1])
	lines := strings.Split(string(text), "\n")
	switch anchor := unknownAnchor.FindStringSubmatch(message); {
	case anchor != nil:
		line = find(lines, 1, func(s string) bool { return strings.Contains(s, "*"+anchor[1]) })
	case isNumber != nil:
		line = 1 // yaml.v3 names no line where it is the first
	case parserComplaint.MatchString(message):
		line++
	case strings.Contains(message, "tab character that violates indentation"):
		line = find(lines, line, tabIndent.MatchString) // it names where the value before began
	}
	return fmt.Errorf("%s:%d: not valid YAML: %s", name, line, message)
}

// find returns the number of the first line from number first on that fits, else first.
func find(lines []string, first int, fits func(string) bool) int {
	for number := first; number <= len(lines); number++ {
		if fits(lines[number-1]) {
			return number
		}
	}
	return first
}

// lineOfBadUTF8 returns the number of the first line that is not UTF-8, 0 if there is none.
func lineOfBadUTF8(text []byte) int {
	if utf8.Valid(text) {
		return 0
	}
	for number := 1; ; number++ {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		if !utf8.Valid(line) {
			return number
		}
		text = rest
	}
}
