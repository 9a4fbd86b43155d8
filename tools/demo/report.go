package main

import (
	"fmt"
	"io"
	"strings"
)

// shownWords is how many words are shown with their context, contextRunes how much of it on either side.
const (
	shownWords   = 8
	contextRunes = 44
)

// report prints for people.
type report struct {
	out             io.Writer
	colour          bool
	run, checkpoint string // directories
}

func (r report) print(before, after evaluation, words comparison) {
	r.heading("On held-out text (every tenth paragraph of the book; the model has not been trained on it)")
	r.line("                                        before      after %d steps", after.Step)
	r.line("  loss                              %10.4f %10.4f", *before.Loss, *after.Loss)
	r.line("  perplexity                        %10.2f %10.2f", *before.Perplexity, *after.Perplexity)
	r.line("  masked words guessed right        %10s %10s    of %d", share(words.before, words.masked), share(words.after, words.masked), words.masked)
	r.words(words)
	r.heading("What there is now")
	r.line("  %s: the model, as from_pretrained reads it", r.run)
	r.line("  %s: the same, with all that is needed to go on from there", r.checkpoint)
	r.line("  %s/metrics.jsonl: loss, learning rate, tokens a second at each step of the log", r.run)
	r.heading("In Python")
	r.line("  from transformers import pipeline")
	r.line("  pipeline(\"fill-mask\", %q)(\"the rays of [MASK] are refracted.\")", r.run)
	r.heading("Further")
	r.line("  train longer         bin/ddprun --nproc 2 --set num_train_epochs=10 examples/opticks/train.yaml")
	r.line("  on your own text     copy examples/opticks/train.yaml, change model, data, eval_data and output_dir, then")
	r.line("                       bin/ddprun --nproc 2 YOURS.yaml; if stopped, the same command resumes")
	r.line("  every key            docs/configuration.md, or bin/ddprun --print-config examples/opticks/train.yaml")
}

// words shows some of the words that only the trained model gets right.
func (r report) words(words comparison) {
	shown := pick(words.gained, shownWords)
	r.heading(fmt.Sprintf("Masked words that it gets right now and did not before (%d of %d; %d went the other way)",
		len(shown), len(words.gained), words.lost))
	if len(shown) == 0 {
		r.line("  none")
	}
	for _, g := range shown {
		before, after := lastRunes(g.Before, contextRunes), firstRunes(g.After, contextRunes)
		r.line("  %*s %s %-*s   before: %s", contextRunes, before, r.bold("["+g.Want+"]"), contextRunes, after, g.instead)
	}
}

func (r report) heading(text string) { r.line("\n%s", r.bold(text)) }

func (r report) line(format string, args ...any) {
	fmt.Fprintln(r.out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (r report) bold(text string) string {
	if !r.colour {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}

func share(part, all int) string {
	if all == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(all))
}

// lastRunes returns the end of text, cut between words, of at most n runes.
func lastRunes(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	_, rest, _ := strings.Cut(string(runes[len(runes)-n-1:]), " ")
	return rest
}

// firstRunes returns the beginning of text, cut between words, of at most n runes.
func firstRunes(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	cut := string(runes[:n+1])
	return cut[:max(0, strings.LastIndex(cut, " "))]
}
