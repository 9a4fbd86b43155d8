package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// newLogger returns the agent's log. format is console (a line for people, in colour on a terminal) or json (one
// object a line); level is the configuration's log_level.
func newLogger(w io.Writer, format, level string) (zerolog.Logger, error) {
	parsed := map[string]zerolog.Level{"debug": zerolog.DebugLevel, "info": zerolog.InfoLevel,
		"warning": zerolog.WarnLevel, "error": zerolog.ErrorLevel}
	switch format {
	case "json":
	case "console":
		w = zerolog.ConsoleWriter{Out: w, NoColor: !inColour(w), TimeFormat: time.TimeOnly}
	default:
		return zerolog.Nop(), fmt.Errorf("--log-format: want console or json, got %q", format)
	}
	return zerolog.New(w).Level(parsed[level]).With().Timestamp().Logger(), nil
}

// inColour says whether w is a terminal whose user has not declined colours (no-color.org).
func inColour(w io.Writer) bool {
	file, isFile := w.(*os.File)
	return isFile && isatty.IsTerminal(file.Fd()) && os.Getenv("NO_COLOR") == ""
}
