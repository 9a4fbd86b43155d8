package hf

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
)

// buildWordPiece makes BERT's tokenizer from vocab.txt, as transformers'
// BertTokenizer does.
func (s *tokenizerSettings) buildWordPiece() (jsonMap, error) {
	path := filepath.Join(s.dir, wordPieceFile)
	text, err := readText(path, maxTokenizerBytes)
	if err != nil {
		return nil, err
	}
	vocab, err := parseWordPieceVocab(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	normalizer, err := s.bertNormalizer()
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
	cls, sep := roles["cls_token"].Content, roles["sep_token"].Content
	clsID, okCLS := ids.of(cls)
	sepID, okSEP := ids.of(sep)
	if !okCLS || !okSEP {
		return nil, fmt.Errorf("%s: names no cls_token or no sep_token, without which BERT's input cannot be made", s.config.path)
	}
	template := templateProcessing(
		[]jsonMap{templateToken(cls, 0), templateSequence("A", 0), templateToken(sep, 0)},
		[]jsonMap{templateToken(cls, 0), templateSequence("A", 0), templateToken(sep, 0), templateSequence("B", 1), templateToken(sep, 1)},
		map[string]int{cls: clsID, sep: sepID})
	model := jsonMap{
		"type": "WordPiece", "unk_token": roles["unk_token"].Content, "continuing_subword_prefix": "##",
		"max_input_chars_per_word": 100, "vocab": vocab,
	}
	return tokenizerObject(ids.sorted(), model, normalizer, jsonMap{"type": "BertPreTokenizer"}, template,
		jsonMap{"type": "WordPiece", "prefix": "##", "cleanup": true}), nil
}

func (s *tokenizerSettings) bertNormalizer() (jsonMap, error) {
	lowercase, err := s.config.Bool("do_lower_case", true)
	if err != nil {
		return nil, err
	}
	chinese, err := s.config.Bool("tokenize_chinese_chars", true)
	if err != nil {
		return nil, err
	}
	strip, err := s.config.Bool("strip_accents", false)
	if err != nil {
		return nil, err
	}
	normalizer := jsonMap{
		"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": chinese, "strip_accents": nil, "lowercase": lowercase,
	}
	if _, ok := s.config.get("strip_accents"); ok { // null, the default, means: as lowercase
		normalizer["strip_accents"] = strip
	}
	return normalizer, nil
}

// parseWordPieceVocab reads one token a line, whose number from 0 on is its id, as
// the tokenizers crate does: without white space at the end, and of a token that
// occurs twice the last place counts.
func parseWordPieceVocab(text string) (map[string]int, error) {
	lines := strings.Split(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	vocab := make(map[string]int, len(lines))
	for id, line := range lines {
		vocab[strings.TrimRightFunc(line, unicode.IsSpace)] = id
	}
	if len(vocab) == 0 {
		return nil, fmt.Errorf("is empty; it must have one token a line")
	}
	return vocab, nil
}
