package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"

	"github.com/ddprun/ddprun/shard"
)

// progressEvery is how often a log that is no terminal is told how far preparing is.
const progressEvery = 10 * time.Second

// progress shows how far preparing is: a bar with the time that is left on a terminal, elsewhere a line every 10 s. What takes less says
// nothing there.
type progress struct {
	log zerolog.Logger
	tty io.Writer        // nil: no terminal
	now func() time.Time // the clock

	bar     *progressbar.ProgressBar
	phase   string    // reading or preparing
	began   time.Time // the phase
	before  int64     // bytes that were done when it began
	spoken  time.Time
	reached shard.Progress
}

// newProgress shows it on stderr.
func newProgress(stderr io.Writer, log zerolog.Logger) *progress {
	p := &progress{log: log, now: time.Now}
	if f, ok := stderr.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		p.tty = f
	}
	return p
}

// show is shard.PrepareConfig's Progress.
func (p *progress) show(now shard.Progress) {
	phase := "preparing"
	if now.Hashing {
		phase = "reading"
	}
	if phase != p.phase {
		p.clear()
		p.phase, p.began, p.before, p.spoken = phase, p.now(), now.Bytes, p.now()
	}
	p.reached = now
	if p.tty != nil {
		p.draw()
		return
	}
	if p.now().Sub(p.spoken) < progressEvery {
		return
	}
	p.spoken = p.now()
	event := p.log.Info().Str("done", fmt.Sprintf("%s of %s", size(now.Bytes), size(now.TotalBytes)))
	if rate := p.rate(); rate > 0 {
		left := time.Duration(float64(now.TotalBytes-now.Bytes) / rate * float64(time.Second))
		event = event.Str("per_second", size(int64(rate))).Str("left", left.Round(time.Second).String())
	}
	if !now.Hashing {
		event = event.Int64("documents", now.Documents).Int64("tokens", now.Tokens).Str("parts", fmt.Sprintf("%d of %d", now.Parts, now.TotalParts))
	}
	event.Msg(phase + " the text")
}

// rate is in bytes a second, since the phase began.
func (p *progress) rate() float64 {
	return float64(p.reached.Bytes-p.before) / p.now().Sub(p.began).Seconds()
}

func (p *progress) draw() {
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(max(1, p.reached.TotalBytes), progressbar.OptionSetWriter(p.tty), progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription(p.phase+" the text"), progressbar.OptionSetPredictTime(true), progressbar.OptionShowElapsedTimeOnFinish(),
			progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	_ = p.bar.Set64(p.reached.Bytes) // what a terminal does not take is lost
}

// clear takes the bar away.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}

// size writes bytes for people.
func size(bytes int64) string {
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if bytes >= unit.bytes {
			return fmt.Sprintf("%.1f %s", float64(bytes)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d B", bytes)
}
