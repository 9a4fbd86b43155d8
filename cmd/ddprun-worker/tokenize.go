package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/tokenizer"
)

// tokenizeOptions are the flags of `ddprun tokenize`.
type tokenizeOptions struct {
	jsonl          bool
	pairs          bool
	words          bool
	offsets        bool
	noSpecial      bool
	maxLength      int
	limited        bool // whether maxLength was given
	encodingErrors string
}

const tokenizeHelp = `Reads texts from standard input, one a line, and writes one JSON object a line with the token ids that
Hugging Face's tokenizers give: {"ids":[101,7592,102]}.

DIR is a model directory with a tokenizer.json, or with the files that older models have instead.

A line ends with "\n"; one "\r" before it belongs to the line's end. A "\r" elsewhere is text, though Python would end
a line there. An empty line is an empty text. For texts with line ends in them use --jsonl.`

func newTokenizeCommand() *cobra.Command {
	var o tokenizeOptions
	command := &cobra.Command{
		Use:   "tokenize DIR",
		Short: "Turn lines of text into token ids",
		Long:  tokenizeHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return inputError{fmt.Errorf("tokenize wants one model directory, found %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			o.limited = command.Flags().Changed("max-length")
			return runTokenize(args[0], o, command.InOrStdin(), command.OutOrStdout())
		},
	}
	flags := command.Flags()
	flags.BoolVar(&o.jsonl, "jsonl", false, "each line is a JSON string")
	flags.BoolVar(&o.pairs, "pairs", false, `with --jsonl: each line is a JSON array of two strings; adds "type_ids"`)
	flags.BoolVar(&o.words, "words", false, `add "words": each token's word, -1 for none`)
	flags.BoolVar(&o.offsets, "offsets", false, `add "offsets": each token's [start, end] in its text, in characters`)
	flags.BoolVar(&o.noSpecial, "no-special", false, "add no special tokens, such as [CLS]")
	flags.IntVar(&o.maxLength, "max-length", 0, "cut to this many tokens, special ones included")
	flags.StringVar(&o.encodingErrors, "encoding-errors", "strict",
		"what to do with input that is not UTF-8, or a lone surrogate in JSON: strict (an error) or replace (with U+FFFD)")
	return command
}

// runTokenize tokenizes the lines of in with the tokenizer of a model directory. Everything wrong with the arguments, the
// directory or the lines is an inputError; the objects of the lines before a wrong one have been written by then.
func runTokenize(dir string, o tokenizeOptions, in io.Reader, out io.Writer) error {
	if err := o.validate(); err != nil {
		return inputError{err}
	}
	tok, _, err := openTokenizer(dir)
	if err != nil {
		return inputError{err}
	}
	defer tok.Close()
	if o.limited {
		cut, err := tok.Truncating(tokenizer.Truncation{MaxLength: o.maxLength})
		if err != nil {
			return inputError{fmt.Errorf("--max-length %d: %w", o.maxLength, err)}
		}
		defer cut.Close()
		tok = cut
	}
	lines := newLineReader(in, o)
	return streamChunks(lines, out, func(c *chunk) ([]byte, error) { return o.encode(tok, c) })
}

func (o tokenizeOptions) validate() error {
	switch {
	case o.pairs && !o.jsonl:
		return errors.New(`--pairs needs --jsonl: a pair is a line ["first text", "second text"]`)
	case o.limited && o.maxLength < 1:
		return fmt.Errorf("--max-length %d: must be at least 1", o.maxLength)
	case o.encodingErrors != "strict" && o.encodingErrors != "replace":
		return fmt.Errorf("--encoding-errors %q: must be strict or replace", o.encodingErrors)
	}
	return nil
}

// openTokenizer reads the tokenizer of a model directory, and returns the tokenizer.json that it is made from; the error names the file.
func openTokenizer(dir string) (tok *tokenizer.Tokenizer, json []byte, err error) {
	json, err = hf.TokenizerJSON(dir)
	if err != nil {
		return nil, nil, err
	}
	tok, err = tokenizer.New(json)
	if err != nil {
		path := filepath.Join(dir, "tokenizer.json")
		if _, missing := os.Stat(path); errors.Is(missing, fs.ErrNotExist) {
			path = "the vocabulary files in " + dir
		}
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return tok, json, nil
}

// encode returns a line of JSON for each input of c.
func (o tokenizeOptions) encode(tok *tokenizer.Tokenizer, c *chunk) ([]byte, error) {
	batch, err := tok.EncodeBatch(c.texts, tokenizer.Options{
		Pairs: o.pairs, TypeIDs: o.pairs, NoSpecialTokens: o.noSpecial, WordIDs: o.words, Offsets: o.offsets,
	})
	var wrong *tokenizer.InputError
	if errors.As(err, &wrong) {
		return nil, inputError{fmt.Errorf("standard input, line %d: %w", c.firstLine+wrong.Input, wrong.Err)}
	}
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 0, 8*len(batch.IDs))
	for i := range len(batch.Starts) - 1 {
		buf = o.appendObject(buf, batch, batch.Starts[i], batch.Starts[i+1])
	}
	return buf, nil
}

// appendObject writes tokens start to end of a batch as one object and a line end.
func (o tokenizeOptions) appendObject(buf []byte, batch *tokenizer.Batch, start, end int) []byte {
	buf = append(buf, `{"ids":`...)
	buf = appendArray(buf, batch.IDs[start:end], appendInt)
	if o.pairs {
		buf = append(buf, `,"type_ids":`...)
		buf = appendArray(buf, batch.TypeIDs[start:end], appendInt)
	}
	if o.words {
		buf = append(buf, `,"words":`...)
		buf = appendArray(buf, batch.WordIDs[start:end], appendInt)
	}
	if o.offsets {
		buf = append(buf, `,"offsets":`...)
		buf = appendArray(buf, batch.Offsets[start:end], appendSpan)
	}
	return append(buf, "}\n"...)
}

func appendArray[T any](buf []byte, values []T, appendValue func([]byte, T) []byte) []byte {
	buf = append(buf, '[')
	for i, value := range values {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendValue(buf, value)
	}
	return append(buf, ']')
}

func appendInt[T int32 | uint32](buf []byte, value T) []byte {
	return strconv.AppendInt(buf, int64(value), 10)
}

func appendSpan(buf []byte, span tokenizer.Span) []byte {
	return appendArray(buf, []uint32{span.Start, span.End}, appendInt)
}
