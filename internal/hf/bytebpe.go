package hf

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// buildByteBPE makes a byte-level BPE tokenizer from vocab.json and merges.txt, as
// transformers' RobertaTokenizer and GPT2Tokenizer do. RoBERTa's <mask> does not
// swallow the space before it then, unlike in the tokenizer.json on the Hub.
func (s *tokenizerSettings) buildByteBPE() (jsonMap, error) {
	vocab, merges, err := s.readBPE()
	if err != nil {
		return nil, err
	}
	prefixSpace, err := s.config.Bool("add_prefix_space", false)
	if err != nil {
		return nil, err
	}
	roles, err := s.rolesWithDefaults()
	if err != nil {
		return nil, err
	}
	ids, err := s.addTokens(vocab, roles, nil)
	if err != nil {
		return nil, err
	}
	var postProcessor jsonMap
	if s.kind == kindRoBERTa {
		postProcessor, err = s.robertaProcessing(roles, ids, prefixSpace)
	} else {
		postProcessor, err = s.gpt2Processing(roles, ids)
	}
	if err != nil {
		return nil, err
	}
	model := jsonMap{
		"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": "", "end_of_word_suffix": "",
		"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
	}
	byteLevel := func(prefixSpace bool) jsonMap {
		return jsonMap{"type": "ByteLevel", "add_prefix_space": prefixSpace, "trim_offsets": true, "use_regex": true}
	}
	return tokenizerObject(ids.sorted(), model, nil, byteLevel(prefixSpace), postProcessor, byteLevel(true)), nil
}

func (s *tokenizerSettings) robertaProcessing(roles map[string]addedToken, ids *tokenIDs, prefixSpace bool) (jsonMap, error) {
	trim, err := s.config.Bool("trim_offsets", true)
	if err != nil {
		return nil, err
	}
	cls, sep := roles["cls_token"].Content, roles["sep_token"].Content
	clsID, okCLS := ids.of(cls)
	sepID, okSEP := ids.of(sep)
	if !okCLS || !okSEP {
		return nil, fmt.Errorf("%s: names no cls_token or no sep_token, without which RoBERTa's input cannot be made", s.config.path)
	}
	return jsonMap{
		"type": "RobertaProcessing", "sep": []any{sep, sepID}, "cls": []any{cls, clsID},
		"trim_offsets": trim, "add_prefix_space": prefixSpace,
	}, nil
}

// gpt2Processing adds nothing unless add_bos_token or add_eos_token is set.
func (s *tokenizerSettings) gpt2Processing(roles map[string]addedToken, ids *tokenIDs) (jsonMap, error) {
	used := map[string]int{}
	wrap := func(sequence string, typeID int) ([]jsonMap, error) {
		pieces := []jsonMap{templateSequence(sequence, typeID)}
		for _, role := range []string{"bos_token", "eos_token"} {
			add, err := s.config.Bool("add_"+role, false)
			if err != nil {
				return nil, err
			}
			token := roles[role].Content
			id, ok := ids.of(token)
			if !add || !ok {
				continue
			}
			used[token] = id
			if role == "bos_token" {
				pieces = append([]jsonMap{templateToken(token, typeID)}, pieces...)
			} else {
				pieces = append(pieces, templateToken(token, typeID))
			}
		}
		return pieces, nil
	}
	single, err := wrap("A", 0)
	if err != nil {
		return nil, err
	}
	second, err := wrap("B", 1)
	if err != nil {
		return nil, err
	}
	return templateProcessing(single, append(single[:len(single):len(single)], second...), used), nil
}

func (s *tokenizerSettings) readBPE() (map[string]int, [][2]string, error) {
	vocabPath, mergesPath := filepath.Join(s.dir, bpeVocabFile), filepath.Join(s.dir, bpeMergesFile)
	data, err := readFile(vocabPath, maxTokenizerBytes)
	if err != nil {
		return nil, nil, err
	}
	vocab, err := parseBPEVocab(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", vocabPath, err)
	}
	text, err := readText(mergesPath, maxTokenizerBytes)
	if err != nil {
		return nil, nil, err
	}
	merges, err := parseMerges(string(text), vocab)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", mergesPath, err)
	}
	return vocab, merges, nil
}

// parseBPEVocab reads an object from token to id.
func parseBPEVocab(data []byte) (map[string]int, error) {
	object, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	if len(object.keys) == 0 {
		return nil, errors.New("is empty; it must map tokens to ids")
	}
	vocab := make(map[string]int, len(object.keys))
	for _, token := range object.keys {
		id, err := strconv.Atoi(string(object.values[token]))
		if err != nil || id < 0 || id > math.MaxUint32 {
			return nil, fmt.Errorf("token %q must have an id, it has %.40s", token, object.values[token])
		}
		vocab[token] = id
	}
	return vocab, nil
}

// parseMerges reads one merge a line, the earliest first. Both parts and the whole
// must be tokens.
func parseMerges(text string, vocab map[string]int) ([][2]string, error) {
	merges := [][2]string{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if strings.HasPrefix(line, "#version") {
			continue
		}
		first, second, ok := strings.Cut(line, " ")
		if !ok || strings.Contains(second, " ") {
			return nil, fmt.Errorf("line %d: %.80q is not two tokens with a space between them", number, line)
		}
		for _, token := range []string{first, second, first + second} {
			if _, ok := vocab[token]; !ok {
				return nil, fmt.Errorf("line %d: token %.80q is not in %s", number, token, bpeVocabFile)
			}
		}
		merges = append(merges, [2]string{first, second})
	}
	return merges, nil
}
