package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/config"
)

func TestLogLevel(t *testing.T) {
	for _, c := range []struct {
		level string
		rank  int
		want  string
	}{
		{"debug", 0, "DBG INF WRN ERR"},
		{"info", 0, "INF WRN ERR"},
		{"warning", 0, "WRN ERR"},
		{"error", 0, "ERR"},
		{"debug", 1, "WRN ERR"},
		{"error", 1, "ERR"},
	} {
		var out bytes.Buffer
		log := newLogger(&out, &config.Config{LogLevel: c.level}, c.rank)
		log.Debug().Msg("")
		log.Info().Msg("")
		log.Warn().Msg("")
		log.Error().Msg("")
		var got []string
		for line := range strings.Lines(out.String()) {
			got = append(got, strings.Fields(line)[1])
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s on rank %d: got %q, want %q", c.level, c.rank, got, c.want)
		}
	}
}
