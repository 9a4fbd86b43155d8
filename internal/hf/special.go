package hf

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// SpecialTokens is what the tokenizer's files say of special tokens, as strings;
// the tokenizer knows their ids. An empty string: the tokenizer has no such token.
type SpecialTokens struct {
	BOS, EOS, UNK, SEP, PAD, CLS, MASK string
	// All lists every special token once, sorted: those with a role and the others.
	All []string
	// MaxLength is model_max_length in tokens; 0: the files set no limit.
	MaxLength int
}

// maxLengthLimit is where a model_max_length stops being one: transformers writes
// 10^30 for none.
const maxLengthLimit = 1 << 31

// ReadSpecialTokens reads the roles from tokenizer_config.json and
// special_tokens_map.json. A role that neither names is what the tokenizer's class
// in transformers takes by itself, if tokenizer.json has that token.
func ReadSpecialTokens(dir string) (*SpecialTokens, error) {
	tokenizer, err := TokenizerJSON(dir)
	if err != nil {
		return nil, err
	}
	s, err := readTokenizerSettings(dir)
	if err != nil {
		return nil, err
	}
	special, err := specialInTokenizer(tokenizer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, tokenizerFile), err)
	}
	roles, none, err := s.roles()
	if err != nil {
		return nil, err
	}
	for role, content := range defaultRoles[s.kind] {
		if _, named := roles[role]; !named && !none[role] && special[content] {
			roles[role] = addedToken{Content: content}
		}
	}
	extras, err := s.extras()
	if err != nil {
		return nil, err
	}
	for _, t := range slices.AppendSeq(extras, maps.Values(roles)) {
		special[t.Content] = true
	}
	maxLength, err := s.config.Float("model_max_length", 0)
	if err != nil {
		return nil, err
	}
	if maxLength < 0 || maxLength >= maxLengthLimit {
		maxLength = 0
	}
	return &SpecialTokens{
		BOS: roles["bos_token"].Content, EOS: roles["eos_token"].Content, UNK: roles["unk_token"].Content,
		SEP: roles["sep_token"].Content, PAD: roles["pad_token"].Content, CLS: roles["cls_token"].Content,
		MASK: roles["mask_token"].Content, All: slices.Sorted(maps.Keys(special)), MaxLength: int(maxLength),
	}, nil
}

// specialInTokenizer is the set of special tokens in a tokenizer.json.
func specialInTokenizer(tokenizer []byte) (map[string]bool, error) {
	var file struct {
		Added []json.RawMessage `json:"added_tokens"`
	}
	if err := json.Unmarshal(tokenizer, &file); err != nil {
		return nil, fmt.Errorf("added_tokens: %w", err)
	}
	special := map[string]bool{}
	for _, raw := range file.Added {
		t, err := parseAddedToken(raw, false)
		if err != nil {
			return nil, fmt.Errorf("added_tokens: an entry %w", err)
		}
		if t != nil && t.Special {
			special[t.Content] = true
		}
	}
	return special, nil
}
