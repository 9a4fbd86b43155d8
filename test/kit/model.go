package kit

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// source is a random BERT of 2 layers and 32 dimensions, with dropout 0.1, 97 tokens and 40 positions, as a test beside this package finds it.
const source = "../../internal/model/testdata/bert-gelu"

// WriteModel writes the model and its tokenizer below model/ by write.
func WriteModel(t testing.TB, write func(name, content string)) {
	t.Helper()
	for _, name := range []string{"config.json", "model.safetensors"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		write("model/"+name, string(content))
	}
	write("model/vocab.txt", strings.Join(Vocabulary(), "\n")+"\n")
	write("model/tokenizer_config.json", `{"tokenizer_class": "BertTokenizer", "do_lower_case": true, "unk_token": "[UNK]",
 "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]", "model_max_length": 40}`)
}

// Vocabulary has a token for each row of the model's embeddings.
func Vocabulary() []string {
	tokens := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
	for c := 'a'; c <= 'z'; c++ {
		tokens = append(tokens, string(c), "##"+string(c))
	}
	for i := 0; len(tokens) < 97; i++ {
		tokens = append(tokens, Word(i))
	}
	return tokens
}

// Word is one of 40 words that the vocabulary has whole.
func Word(i int) string { return string([]byte{byte('b' + i/8), "aeiouyrl"[i%8], 'n'}) }

// Lines makes n documents of 1 to 30 words, one a line.
func Lines(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 0))
	var b strings.Builder
	for range n {
		for range 1 + r.IntN(30) {
			b.WriteString(Word(r.IntN(40)) + " ")
		}
		b.WriteString("\n")
	}
	return b.String()
}
