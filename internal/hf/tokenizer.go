package hf

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The tokenizer's files that this package reads.
const (
	tokenizerFile        = "tokenizer.json"
	tokenizerConfigFile  = "tokenizer_config.json"
	specialTokensMapFile = "special_tokens_map.json"
	addedTokensFile      = "added_tokens.json"
	wordPieceFile        = "vocab.txt"
	bpeVocabFile         = "vocab.json"
	bpeMergesFile        = "merges.txt"
	sentencePieceFile    = "spiece.model"
)

// tokenizerKind is a family of tokenizers that transformers builds in one way.
type tokenizerKind int

const (
	kindUnknown tokenizerKind = iota
	kindBERT
	kindRoBERTa
	kindGPT2
	kindT5
)

// tokenizerClasses maps tokenizer_class, without "Fast", to its kind.
var tokenizerClasses = map[string]tokenizerKind{
	"BertTokenizer": kindBERT, "DistilBertTokenizer": kindBERT, "ElectraTokenizer": kindBERT, "ConvBertTokenizer": kindBERT,
	"RobertaTokenizer": kindRoBERTa, "BartTokenizer": kindRoBERTa, "LongformerTokenizer": kindRoBERTa,
	"GPT2Tokenizer": kindGPT2,
	"T5Tokenizer":   kindT5,
}

// modelTokenizers maps model_type to the kind that AutoTokenizer takes where no
// tokenizer_class is named.
var modelTokenizers = map[string]tokenizerKind{
	"bert": kindBERT, "distilbert": kindBERT, "electra": kindBERT, "convbert": kindBERT, "ernie": kindBERT,
	"megatron-bert": kindBERT, "nomic_bert": kindBERT, "squeezebert": kindBERT,
	"roberta": kindRoBERTa, "roberta-prelayernorm": kindRoBERTa, "bart": kindRoBERTa, "longformer": kindRoBERTa,
	"data2vec-text": kindRoBERTa, "ibert": kindRoBERTa,
	"gpt2": kindGPT2, "gpt_neo": kindGPT2, "gptj": kindGPT2,
	"t5": kindT5, "mt5": kindT5, "switch_transformers": kindT5,
}

// TokenizerJSON is the directory's tokenizer.json. Where there is none it is made
// from vocab.txt (BERT), vocab.json and merges.txt (RoBERTa, GPT-2) or spiece.model
// (T5) as transformers 5 makes it, with what tokenizer_config.json,
// special_tokens_map.json and added_tokens.json say.
func TokenizerJSON(dir string) ([]byte, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if exists(dir, tokenizerFile) {
		path := filepath.Join(dir, tokenizerFile)
		data, err := readText(path, maxTokenizerBytes)
		if err != nil {
			return nil, err
		}
		if !json.Valid(data) {
			return nil, fmt.Errorf("%s: invalid JSON", path)
		}
		return data, nil
	}
	s, err := readTokenizerSettings(dir)
	if err != nil {
		return nil, err
	}
	tokenizer, err := s.build()
	if err != nil {
		return nil, err
	}
	return marshal(tokenizer)
}

// tokenizerSettings is what a directory says of its tokenizer beside the vocabulary.
type tokenizerSettings struct {
	dir      string
	kind     tokenizerKind
	class    string  // as tokenizer_config.json names it, or the model type; for messages
	config   *Config // tokenizer_config.json
	specials *Config // special_tokens_map.json
	added    *Config // added_tokens.json
}

func readTokenizerSettings(dir string) (*tokenizerSettings, error) {
	s := &tokenizerSettings{dir: dir}
	for _, file := range []struct {
		name string
		into **Config
	}{{tokenizerConfigFile, &s.config}, {specialTokensMapFile, &s.specials}, {addedTokensFile, &s.added}} {
		c, err := readOptionalObject(filepath.Join(dir, file.name))
		if err != nil {
			return nil, err
		}
		*file.into = c
	}
	class, err := s.config.String("tokenizer_class", "")
	if err != nil {
		return nil, err
	}
	s.class = class
	s.kind = tokenizerClasses[strings.TrimSuffix(class, "Fast")]
	if class == "" {
		model, err := readOptionalObject(filepath.Join(dir, ConfigFile))
		if err != nil {
			return nil, err
		}
		if s.class, err = model.String("model_type", ""); err != nil {
			return nil, err
		}
		s.kind = modelTokenizers[s.class]
	}
	if s.class == "" && exists(dir, wordPieceFile) {
		s.kind = kindBERT // nothing else calls its vocabulary that and says nothing of itself
	}
	return s, nil
}

// readOptionalObject reads a file that holds a JSON object; a missing one counts as
// an empty object.
func readOptionalObject(path string) (*Config, error) {
	data, err := readFile(path, maxConfigBytes)
	if errors.Is(err, os.ErrNotExist) {
		data, err = []byte("{}"), nil
	}
	if err != nil {
		return nil, err
	}
	fields, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Config{path: path, fields: fields}, nil
}

// jsonMap is a JSON object to be written; the order of keys does not matter there.
type jsonMap = map[string]any

// build makes the tokenizer from the files of its kind.
func (s *tokenizerSettings) build() (jsonMap, error) {
	has := func(names ...string) bool {
		for _, name := range names {
			if !exists(s.dir, name) {
				return false
			}
		}
		return true
	}
	switch {
	case s.kind == kindBERT && has(wordPieceFile):
		return s.buildWordPiece()
	case (s.kind == kindRoBERTa || s.kind == kindGPT2) && has(bpeVocabFile, bpeMergesFile):
		return s.buildByteBPE()
	case s.kind == kindT5 && has(sentencePieceFile):
		return s.buildT5()
	}
	return nil, fmt.Errorf("model directory %s has no %s, and none can be made for %q from the files there: that is possible for "+
		"BERT from %s, for RoBERTa and GPT-2 from %s and %s, for T5 from %s. Where Python's transformers loads the tokenizer, "+
		"it writes the file: python3 -c 'from transformers import AutoTokenizer; AutoTokenizer.from_pretrained(%q).save_pretrained(%q)'",
		s.dir, tokenizerFile, s.class, wordPieceFile, bpeVocabFile, bpeMergesFile, sentencePieceFile, s.dir, s.dir)
}

// tokenizerObject puts the parts of a tokenizer.json together.
func tokenizerObject(added []addedToken, model, normalizer, preTokenizer, postProcessor, decoder jsonMap) jsonMap {
	return jsonMap{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "model": model,
		"normalizer": normalizer, "pre_tokenizer": preTokenizer, "post_processor": postProcessor, "decoder": decoder,
	}
}

// Pieces of a TemplateProcessing post-processor.

func templateSequence(id string, typeID int) jsonMap {
	return jsonMap{"Sequence": jsonMap{"id": id, "type_id": typeID}}
}

func templateToken(token string, typeID int) jsonMap {
	return jsonMap{"SpecialToken": jsonMap{"id": token, "type_id": typeID}}
}

// templateProcessing is the post-processor that wraps one sequence as single says
// and two as pair says; ids are those of the tokens that they name.
func templateProcessing(single, pair []jsonMap, ids map[string]int) jsonMap {
	tokens := jsonMap{}
	for token, id := range ids {
		tokens[token] = jsonMap{"id": token, "ids": []int{id}, "tokens": []string{token}}
	}
	return jsonMap{"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}
}
