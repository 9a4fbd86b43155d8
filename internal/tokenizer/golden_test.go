package tokenizer

import (
	"bufio"
	"compress/gzip"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// goldens is a folder of tokenizers and of what the Python package makes of texts, as tools/golden/make_tokenizer_golden.py
// writes it: NAME.json or NAME.json.gz, inputs.SET.jsonl.gz, exp.NAME.SET.jsonl.gz, meta.json.
type goldens struct {
	dir      string
	Families []string
	Trunc    []struct {
		MaxLength int `json:"max_length"`
		Stride    int
		Strategy  string
		Direction string
	}
}

// goldenInput is a text, or a pair of texts.
type goldenInput struct {
	T    string
	A, B string
}

// goldenEncoding is what Python gave; absent fields were not recorded.
type goldenEncoding struct {
	IDs          []uint32
	Offsets      []uint32 `json:"off"`
	Words        []int32  `json:"w"`
	Types        []uint32 `json:"ty"`
	Sequences    []int32  `json:"s"`
	Overflows    int      `json:"n"`
	OverflowSHA1 string   `json:"osha"`
	Decoded      *string  `json:"d"`
	NoSpecial    []uint32 `json:"ns"`
}

func openGoldens(t testing.TB, dir string) *goldens {
	t.Helper()
	g := &goldens{dir: dir}
	data, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// committed are the goldens in testdata; shared is a larger folder that only some machines have.
func committed(t testing.TB) *goldens { return openGoldens(t, "testdata") }

func shared(t testing.TB) *goldens {
	dir := os.Getenv("DDPRUN_TOKENIZER_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "tokenizers", "data")
	}
	if _, err := os.Stat(filepath.Join(dir, "meta.json")); err != nil {
		t.Skipf("no tokenizer data at %s; set DDPRUN_TOKENIZER_DATA", dir)
	}
	return openGoldens(t, dir)
}

func (g *goldens) tokenizer(t testing.TB, family string) *Tokenizer {
	t.Helper()
	tok, err := New(g.json(t, family))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tok.Close)
	return tok
}

func (g *goldens) json(t testing.TB, family string) []byte {
	t.Helper()
	path := filepath.Join(g.dir, family+".json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = io.ReadAll(unzip(t, path+".gz"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unzip(t testing.TB, path string) io.Reader {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	unzipped, err := gzip.NewReader(bufio.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return unzipped
}

func readLines[T any](t testing.TB, path string) []T {
	t.Helper()
	var lines []T
	for decoder := json.NewDecoder(unzip(t, path)); decoder.More(); {
		var line T
		if err := decoder.Decode(&line); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		lines = append(lines, line)
	}
	return lines
}

func (g *goldens) inputs(t testing.TB, set string) []goldenInput {
	return readLines[goldenInput](t, filepath.Join(g.dir, "inputs."+set+".jsonl.gz"))
}

func (g *goldens) expected(t testing.TB, family, set string) []goldenEncoding {
	return readLines[goldenEncoding](t, filepath.Join(g.dir, fmt.Sprintf("exp.%s.%s.jsonl.gz", family, set)))
}

var everything = Options{TypeIDs: true, Offsets: true, WordIDs: true, SequenceIDs: true, WordStarts: true, Overflow: true}

// check compares input i of a batch with what Python gave, in all that both have.
func check(b *Batch, i int, want goldenEncoding) error {
	start, end := b.Starts[b.Firsts[i]], b.Starts[b.Firsts[i]+1]
	if got := b.IDs[start:end]; !slices.Equal(got, want.IDs) {
		return fmt.Errorf("ids\n got %d\nwant %d", got, want.IDs)
	}
	if want.Types != nil && b.TypeIDs != nil && !slices.Equal(b.TypeIDs[start:end], want.Types) {
		return fmt.Errorf("type ids %d, want %d", b.TypeIDs[start:end], want.Types)
	}
	if want.Offsets != nil && b.Offsets != nil {
		var got []uint32
		for _, span := range b.Offsets[start:end] {
			got = append(got, span.Start, span.End)
		}
		if !slices.Equal(got, want.Offsets) {
			return fmt.Errorf("offsets\n got %d\nwant %d", got, want.Offsets)
		}
	}
	if want.Words != nil && b.WordIDs != nil && !slices.Equal(b.WordIDs[start:end], want.Words) {
		return fmt.Errorf("word ids\n got %d\nwant %d", b.WordIDs[start:end], want.Words)
	}
	if want.Sequences != nil && b.SequenceIDs != nil && !slices.Equal(b.SequenceIDs[start:end], want.Sequences) {
		return fmt.Errorf("sequence ids\n got %d\nwant %d", b.SequenceIDs[start:end], want.Sequences)
	}
	if want.OverflowSHA1 != "" {
		return checkOverflow(b, i, want)
	}
	return nil
}

func checkOverflow(b *Batch, i int, want goldenEncoding) error {
	first, last := b.Firsts[i]+1, b.Firsts[i+1]
	if last-first != want.Overflows {
		return fmt.Errorf("%d overflowing encodings, want %d", last-first, want.Overflows)
	}
	var flat []byte
	for _, id := range b.IDs[b.Starts[first]:b.Starts[last]] {
		flat = binary.LittleEndian.AppendUint32(flat, id)
	}
	sum := sha1.Sum(flat)
	if got := hex.EncodeToString(sum[:])[:16]; got != want.OverflowSHA1 {
		return fmt.Errorf("SHA-1 of the overflow is %s, want %s", got, want.OverflowSHA1)
	}
	return nil
}

// checkAll encodes texts with and without details (the library takes another path for each) and compares all.
func checkAll(t *testing.T, tok *Tokenizer, texts []string, options Options, wants []goldenEncoding) {
	t.Helper()
	inputs := len(texts)
	if options.Pairs {
		inputs /= 2
	}
	if inputs != len(wants) {
		t.Fatalf("%d inputs and %d expected encodings", inputs, len(wants))
	}
	detailed := everything
	detailed.Pairs = options.Pairs
	options.TypeIDs, options.Overflow = true, true
	for _, options := range []Options{options, detailed} {
		batch, err := tok.EncodeBatch(texts, options)
		if err != nil {
			t.Fatal(err)
		}
		wrong := 0
		for i, want := range wants {
			if err := check(batch, i, want); err != nil {
				if wrong++; wrong <= 3 {
					t.Errorf("input %d, %+v: %v", i, options, err)
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%d of %d inputs differ", wrong, len(wants))
		}
	}
}

func TestGoldens(t *testing.T) {
	for _, open := range []struct {
		name string
		open func(testing.TB) *goldens
		sets []string
	}{
		{"committed", committed, []string{"hostile"}},
		{"shared", shared, []string{"opticks"}},
	} {
		t.Run(open.name, func(t *testing.T) {
			g := open.open(t)
			for _, family := range g.Families {
				t.Run(family, func(t *testing.T) {
					t.Parallel()
					tok := g.tokenizer(t, family)
					for _, set := range open.sets {
						g.checkTexts(t, tok, family, set)
					}
					g.checkPairs(t, tok, family)
					for k := range g.Trunc {
						g.checkTruncation(t, tok, family, k)
					}
				})
			}
		})
	}
}

func (g *goldens) checkTexts(t *testing.T, tok *Tokenizer, family, set string) {
	var texts []string
	var wants []goldenEncoding
	inputs, expected := g.inputs(t, set), g.expected(t, family, set)
	step := 1
	if len(inputs) > 1000 && !testAll {
		step = 7
	}
	for i := 0; i < len(inputs); i += step {
		texts, wants = append(texts, inputs[i].T), append(wants, expected[i])
	}
	checkAll(t, tok, texts, Options{}, wants)
	for i, want := range wants {
		if want.Decoded == nil {
			continue
		}
		if got, err := tok.Decode(want.IDs, true); err != nil || got != *want.Decoded {
			t.Errorf("text %d: decoded %q, %v; want %q", i, got, err, *want.Decoded)
		}
		plain, err := tok.EncodeBatch(texts[i:i+1], Options{NoSpecialTokens: true})
		if err != nil || !slices.Equal(plain.IDs, want.NoSpecial) {
			t.Errorf("text %d without special tokens: %d, %v; want %d", i, plain.IDs, err, want.NoSpecial)
		}
	}
}

func (g *goldens) checkPairs(t *testing.T, tok *Tokenizer, family string) {
	var texts []string
	for _, input := range g.inputs(t, "pairs") {
		texts = append(texts, input.A, input.B)
	}
	checkAll(t, tok, texts, Options{Pairs: true}, g.expected(t, family, "pairs"))
}

// checkTruncation compares set truncK, whose line 2i is pair i and line 2i+1 its second text alone.
func (g *goldens) checkTruncation(t *testing.T, tok *Tokenizer, family string, k int) {
	to := Truncation{MaxLength: g.Trunc[k].MaxLength, Stride: g.Trunc[k].Stride}
	to.Strategy = Strategy(slices.Index([]string{"longest_first", "only_first", "only_second"}, g.Trunc[k].Strategy))
	to.Direction = Direction(slices.Index([]string{"right", "left"}, g.Trunc[k].Direction))
	cut, err := tok.Truncating(to)
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Close()
	wants := g.expected(t, family, fmt.Sprintf("trunc%d", k))
	var pairs, singles []string
	var pairWants, singleWants []goldenEncoding
	inputs := g.inputs(t, "pairs")
	for i := range len(wants) / 2 {
		pairs = append(pairs, inputs[i].A, inputs[i].B)
		singles = append(singles, inputs[i].B)
		pairWants, singleWants = append(pairWants, wants[2*i]), append(singleWants, wants[2*i+1])
	}
	checkAll(t, cut, pairs, Options{Pairs: true}, pairWants)
	checkAll(t, cut, singles, Options{}, singleWants)
}
