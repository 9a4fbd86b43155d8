package main

import (
	"bytes"
	"strings"
	"testing"
)

// People start the commands through ddprun, so that is what their help names.
func TestHelpNamesDdprun(t *testing.T) {
	for _, command := range []string{"eval", "prepare", "tokenize"} {
		root := newRootCommand()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs([]string{command, "--help"})
		if err := root.Execute(); err != nil || !strings.Contains(out.String(), "\n  ddprun "+command+" ") || strings.Contains(out.String(), "ddprun-worker") {
			t.Errorf("%s --help: %v\n%s", command, err, out.String())
		}
	}
}
