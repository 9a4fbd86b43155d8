package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestNewRefusesBrokenFiles(t *testing.T) {
	const model = `"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}`
	for _, c := range []struct{ name, json, want string }{
		{"empty", ``, "EOF"},
		{"not JSON", `{"version" "1.0"}`, "line 1 column"},
		{"array", `[]`, "expected struct Tokenizer"},
		{"no model", `{"version":"1.0"}`, "Model missing"},
		{"another version", `{"version":"9",` + model + `}`, "Unknown tokenizer version '9'"},
		{"unknown model", `{"model":{"type":"Magic"}}`, "did not match"},
		{"not UTF-8", "{\"version\":\"1.0\xff\"," + model + `}`, "line 1 column"},
		{"merge of no token", `{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}`, "out of vocabulary"},
		{"nested too deep", `{"pre_tokenizer":` + strings.Repeat(`{"type":"Sequence","pretokenizers":[`, 100000), "recursion limit"},
		{"charsmap cut short", `{"normalizer":{"type":"Precompiled","precompiled_charsmap":"/////w=="},` + model + `}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok, err := New([]byte(c.json))
			if err == nil {
				tok.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

// A panic of the library must come back as an error that says where, and leave the tokenizer usable.
func TestPanicIsAnError(t *testing.T) {
	tok, err := New([]byte(`{"pre_tokenizer":{"type":"FixedLength","length":0},"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	for range 3 {
		_, err = tok.EncodeBatch([]string{"", "a"}, Options{})
		var wrong *InputError
		if !errors.As(err, &wrong) || wrong.Input != 1 || !strings.Contains(err.Error(), "panic in tokenizers") || !strings.Contains(err.Error(), "fixed_length.rs:") {
			t.Fatalf("error %v", err)
		}
	}
	if batch, err := tok.EncodeBatch([]string{""}, Options{}); err != nil || len(batch.IDs) != 0 {
		t.Errorf("after the panic: %v, %v", batch, err)
	}
}

// Whatever is changed in a tokenizer.json, reading and using it gives a result or an error.
func TestMutatedFiles(t *testing.T) {
	g := committed(t)
	rng := rand.New(rand.NewPCG(1, 2))
	rounds := 40
	if testAll {
		rounds = 2000
	}
	refused := 0
	for _, family := range []string{"bert", "roberta", "llama", "llama3", "t5"} {
		original := g.json(t, family)
		for range rounds {
			var value any
			if err := json.Unmarshal(original, &value); err != nil {
				t.Fatal(err)
			}
			trim(value, rng)
			for range 1 + rng.IntN(3) {
				value = mutate(value, rng)
			}
			mutated, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if rng.IntN(4) == 0 {
				mutated[rng.IntN(len(mutated))] = byte(rng.IntN(256))
			}
			if !use(t, mutated) {
				refused++
			}
		}
	}
	if refused == 0 || refused == 5*rounds {
		t.Errorf("%d of %d files refused: the mutations try nothing", refused, 5*rounds)
	}
}

// trim drops most of the vocabulary, so that mutations hit something else.
func trim(value any, rng *rand.Rand) {
	model := value.(map[string]any)["model"].(map[string]any)
	if rng.IntN(8) > 0 {
		if merges, ok := model["merges"].([]any); ok {
			model["merges"] = merges[:5]
		}
	}
}

// mutate changes something in a JSON value.
func mutate(value any, rng *rand.Rand) any {
	if rng.IntN(3) > 0 {
		switch v := value.(type) {
		case map[string]any:
			for key := range v { // a random one: Go's order of maps is
				if rng.IntN(8) == 0 {
					delete(v, key)
				} else {
					v[key] = mutate(v[key], rng)
				}
				return v
			}
		case []any:
			if len(v) > 0 {
				i := rng.IntN(len(v))
				v[i] = mutate(v[i], rng)
				return v
			}
		case string:
			b := []byte(v)
			if len(b) > 0 {
				b[rng.IntN(len(b))] = byte(rng.IntN(128))
			}
			return string(b)
		}
	}
	strange := []any{nil, true, -1, 0, 1e300, 1 << 62, "", "\x00", "(((", "[CLS]", []any{}, map[string]any{}, []any{[]any{"a", 0}}, "BPE", "Sequence"}
	return strange[rng.IntN(len(strange))]
}

// use reads a file and calls everything; it says whether the file was taken.
func use(t *testing.T, file []byte) bool {
	tok, err := New(file)
	if err != nil {
		return false
	}
	defer tok.Close()
	texts := []string{"", "Hello, World! [MASK] <s>\x00 \u00e9\u4e2d\U0001F600 \u2581a  b'll 123456", strings.Repeat("ab", 300)}
	batch, err := tok.EncodeBatch(texts, everything)
	if err != nil {
		return true
	}
	if len(batch.Starts) != 4 || batch.Starts[3] != len(batch.IDs) {
		t.Errorf("starts %d of %d tokens", batch.Starts, len(batch.IDs))
	}
	if cut, err := tok.Truncating(Truncation{MaxLength: 8, Stride: 2}); err == nil {
		_, _ = cut.EncodeBatch(texts[:2], Options{Pairs: true})
		cut.Close()
	}
	_, _ = tok.Decode(append(batch.IDs, 1<<31), true)
	_, _ = tok.VocabSize(true)
	return true
}

func TestClose(t *testing.T) {
	tok := committed(t).tokenizer(t, "bert")
	cut, err := tok.Truncating(Truncation{MaxLength: 5})
	if err != nil {
		t.Fatal(err)
	}
	tok.Close()
	tok.Close()
	if _, err := tok.EncodeBatch([]string{"a"}, Options{}); !errors.Is(err, ErrClosed) {
		t.Errorf("EncodeBatch: %v", err)
	}
	if _, err := tok.Decode(nil, false); !errors.Is(err, ErrClosed) {
		t.Errorf("Decode: %v", err)
	}
	if _, _, err := tok.TokenToID("a"); !errors.Is(err, ErrClosed) {
		t.Errorf("TokenToID: %v", err)
	}
	if _, err := tok.Truncating(Truncation{MaxLength: 5}); !errors.Is(err, ErrClosed) {
		t.Errorf("Truncating: %v", err)
	}
	if batch, err := cut.EncodeBatch([]string{"the colours of light"}, Options{}); err != nil || len(batch.IDs) != 5 {
		t.Errorf("the truncating one, which shares the vocabulary: %v, %v", batch, err)
	}
	cut.Close()
}

// Many goroutines use a tokenizer at once, and one closes it: every call gives the right ids or ErrClosed.
func TestConcurrentUse(t *testing.T) {
	g := committed(t)
	inputs, wants := g.inputs(t, "hostile"), g.expected(t, "roberta", "hostile")
	tok := g.tokenizer(t, "roberta")
	var wait sync.WaitGroup
	for worker := range 16 {
		wait.Go(func() {
			for i := range inputs {
				i = (i + 17*worker) % len(inputs)
				batch, err := tok.EncodeBatch([]string{inputs[i].T}, everything)
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if err := check(batch, 0, wants[i]); err != nil {
					t.Errorf("text %d: %v", i, err)
				}
			}
			if worker == 0 {
				tok.Close()
			}
		})
	}
	wait.Wait()
}

// Tokenizers that nobody closed are freed with the Go value: the process must not grow by each.
func TestCleanup(t *testing.T) {
	file := committed(t).json(t, "t5")
	load := func(n int) {
		for range n {
			if _, err := New(file); err != nil {
				t.Fatal(err)
			}
			runtime.GC()
			time.Sleep(time.Millisecond) // cleanups run beside this goroutine
		}
	}
	load(5)
	before := residentBytes(t)
	load(50)
	if growth := residentBytes(t) - before; growth > 16<<20 {
		t.Errorf("50 tokenizers that nobody closed left %d bytes", growth)
	}
}

func residentBytes(t *testing.T) int {
	t.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var total, resident int
	if _, err := fmt.Sscan(string(statm), &total, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}
