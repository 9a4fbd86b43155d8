package main

import (
	"io"
	"time"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/internal/config"
)

// newLogger writes for people, from log_level on; of what all ranks would say, rank 0 alone says it.
func newLogger(w io.Writer, c *config.Config, rank int) zerolog.Logger {
	level := map[string]zerolog.Level{"debug": zerolog.DebugLevel, "info": zerolog.InfoLevel,
		"warning": zerolog.WarnLevel, "error": zerolog.ErrorLevel}[c.LogLevel]
	if rank != 0 {
		level = max(level, zerolog.WarnLevel)
	}
	console := zerolog.ConsoleWriter{Out: w, NoColor: true, TimeFormat: time.TimeOnly}
	return zerolog.New(console).Level(level).With().Timestamp().Logger()
}
