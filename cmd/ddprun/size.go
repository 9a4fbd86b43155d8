package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// defaultLogMaxSize bounds a rank's two logs to 400 MB with what they were before.
const defaultLogMaxSize = byteSize(100e6)

// byteSize is a flag for a number of bytes: 5000, 100MB, 1GiB.
type byteSize int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

// Set is pflag.Value's.
func (b *byteSize) Set(text string) error {
	for _, unit := range sizeUnits {
		number, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		switch {
		case err != nil:
			return fmt.Errorf("want a number of bytes such as 5000, 100MB or 1GiB, got %q", text)
		case n < 0:
			return errors.New("must be at least 0")
		case n > math.MaxInt64/unit.bytes:
			return errors.New("is too large")
		}
		*b = byteSize(n * unit.bytes)
		return nil
	}
	panic("the empty unit fits every text")
}

func (b *byteSize) String() string {
	for _, unit := range []string{"GB", "MB", "kB"} {
		for _, known := range sizeUnits {
			if n := int64(*b); known.name == unit && n > 0 && n%known.bytes == 0 {
				return strconv.FormatInt(n/known.bytes, 10) + unit
			}
		}
	}
	return strconv.FormatInt(int64(*b), 10)
}

// Type is pflag.Value's.
func (b *byteSize) Type() string { return "size" }
