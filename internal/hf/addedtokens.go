package hf

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// addedToken is a token that the tokenizer cuts out of the text before its model
// sees it, as tokenizer.json spells it.
type addedToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// parseAddedToken reads a string, an object, or null, which gives nil. An object
// that does not say so is special if special is true.
func parseAddedToken(raw json.RawMessage, special bool) (*addedToken, error) {
	var content *string
	if err := json.Unmarshal(raw, &content); err == nil {
		if content == nil {
			return nil, nil
		}
		return &addedToken{Content: *content, Special: special, Normalized: !special}, nil
	}
	var object struct {
		addedToken
		Content    *string `json:"content"`
		Normalized *bool   `json:"normalized"`
		Special    *bool   `json:"special"`
	}
	if err := json.Unmarshal(raw, &object); err != nil || object.Content == nil {
		return nil, fmt.Errorf("must be a string or an object with content, it is %.80s", raw)
	}
	t := object.addedToken
	t.Content, t.Special = *object.Content, special
	if object.Special != nil {
		t.Special = *object.Special
	}
	t.Normalized = !t.Special
	if object.Normalized != nil {
		t.Normalized = *object.Normalized
	}
	return &t, nil
}

// roleKeys are the roles of special tokens in the order in which transformers adds
// them (SPECIAL_TOKENS_ATTRIBUTES).
var roleKeys = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// defaultRoles is what each kind's class in transformers takes where nothing is said.
var defaultRoles = map[tokenizerKind]map[string]string{
	kindBERT: {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"},
	kindRoBERTa: {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>",
		"cls_token": "<s>", "mask_token": "<mask>"},
	kindGPT2: {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
	kindT5:   {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
}

// sources lists the files that name special tokens, the stronger one last. Where
// tokenizer_config.json has added_tokens_decoder, transformers does not read the
// older special_tokens_map.json.
func (s *tokenizerSettings) sources() []*Config {
	if _, ok := s.config.get("added_tokens_decoder"); ok {
		return []*Config{s.config}
	}
	return []*Config{s.config, s.specials}
}

// roles gives the special token of each role that a file names, and says of which
// roles a file says that there is none (null).
func (s *tokenizerSettings) roles() (map[string]addedToken, map[string]bool, error) {
	roles, none := map[string]addedToken{}, map[string]bool{}
	for _, source := range s.sources() {
		for _, role := range roleKeys {
			raw, ok := source.Raw(role)
			if !ok {
				continue
			}
			t, err := parseAddedToken(raw, true)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %s %w", source.path, role, err)
			}
			if t == nil {
				delete(roles, role)
				none[role] = true
				continue
			}
			roles[role] = *t
			delete(none, role)
		}
	}
	return roles, none, nil
}

// rolesWithDefaults is roles filled up with what the class takes by itself.
func (s *tokenizerSettings) rolesWithDefaults() (map[string]addedToken, error) {
	roles, none, err := s.roles()
	if err != nil {
		return nil, err
	}
	for role, content := range defaultRoles[s.kind] {
		if _, ok := roles[role]; !ok && !none[role] {
			roles[role] = addedToken{Content: content, Special: true}
		}
	}
	return roles, nil
}

// extras lists the special tokens without a role.
func (s *tokenizerSettings) extras() ([]addedToken, error) {
	var extras []addedToken
	for _, source := range s.sources() {
		for _, key := range []string{"additional_special_tokens", "extra_special_tokens"} {
			raw, ok := source.get(key)
			if !ok {
				continue
			}
			tokens, err := parseTokenList(raw)
			if err != nil {
				return nil, fmt.Errorf("%s: %s %w", source.path, key, err)
			}
			extras = append(extras, tokens...)
		}
	}
	return extras, nil
}

// parseTokenList reads a list of tokens or, as newer files have it, an object from
// a name to a token.
func parseTokenList(raw json.RawMessage) ([]addedToken, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		named, err := parseObject(raw)
		if err != nil {
			return nil, fmt.Errorf("must be a list of tokens, it is %.80s", raw)
		}
		for _, name := range named.keys {
			list = append(list, named.values[name])
		}
	}
	var tokens []addedToken
	for _, entry := range list {
		t, err := parseAddedToken(entry, true)
		if err != nil {
			return nil, err
		}
		if t != nil {
			tokens = append(tokens, *t)
		}
	}
	return tokens, nil
}

// recorded lists the tokens that were added to the vocabulary when the tokenizer
// was saved, in the order of their ids: added_tokens_decoder in
// tokenizer_config.json or, of older versions, added_tokens.json, which does not
// say which of them are special.
func (s *tokenizerSettings) recorded(isSpecial map[string]bool) ([]addedToken, error) {
	var tokens []addedToken
	if raw, ok := s.config.get("added_tokens_decoder"); ok {
		byID, err := parseObject(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: added_tokens_decoder: %w", s.config.path, err)
		}
		for _, key := range byID.keys {
			t, err := parseAddedToken(byID.values[key], false)
			id, idErr := strconv.Atoi(key)
			if err != nil || idErr != nil || t == nil {
				return nil, fmt.Errorf("%s: added_tokens_decoder: %q must be an id and have a token, it is %.80s",
					s.config.path, key, byID.values[key])
			}
			t.ID = id
			tokens = append(tokens, *t)
		}
	} else {
		for _, content := range s.added.Keys() {
			id, err := s.added.Int(content, 0)
			if err != nil {
				return nil, err
			}
			special := isSpecial[content]
			tokens = append(tokens, addedToken{ID: id, Content: content, Special: special, Normalized: !special})
		}
	}
	slices.SortStableFunc(tokens, func(a, b addedToken) int { return cmp.Compare(a.ID, b.ID) })
	return tokens, nil
}

// tokenIDs gives added tokens their ids.
type tokenIDs struct {
	vocab map[string]int // of the model
	added map[string]addedToken
	next  int // of a token that the vocabulary lacks
}

// addTokens gathers every added token of the tokenizer and gives it its id: the
// model's own where its vocabulary has the token, the next free one otherwise, as
// the tokenizers crate does. more are special tokens of the kind itself.
func (s *tokenizerSettings) addTokens(vocab map[string]int, roles map[string]addedToken, more []addedToken) (*tokenIDs, error) {
	extras, err := s.extras()
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, t := range roles {
		named[t.Content] = true
	}
	special := maps.Clone(named)
	for _, t := range extras {
		special[t.Content] = true
	}
	tokens, err := s.recorded(special)
	if err != nil {
		return nil, err
	}
	for _, role := range roleKeys {
		if t, ok := roles[role]; ok {
			tokens = append(tokens, t)
		}
	}
	ids := &tokenIDs{vocab: vocab, added: map[string]addedToken{}, next: len(vocab)}
	for _, t := range slices.Concat(tokens, more, extras) {
		t.Special = t.Special || named[t.Content]
		ids.add(t)
	}
	return ids, nil
}

func (ids *tokenIDs) add(t addedToken) {
	if _, twice := ids.added[t.Content]; twice || t.Content == "" {
		return
	}
	id, ok := ids.vocab[t.Content]
	if !ok {
		id = ids.next
	}
	ids.next = max(ids.next, id+1)
	t.ID = id
	ids.added[t.Content] = t
}

// of is the id of a token, added or in the vocabulary; false: there is none.
func (ids *tokenIDs) of(content string) (int, bool) {
	if t, ok := ids.added[content]; ok {
		return t.ID, true
	}
	id, ok := ids.vocab[content]
	return id, ok
}

// sorted is the added tokens in the order of their ids, never nil: tokenizer.json
// must have a list.
func (ids *tokenIDs) sorted() []addedToken {
	tokens := slices.AppendSeq([]addedToken{}, maps.Values(ids.added))
	slices.SortFunc(tokens, func(a, b addedToken) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Content, b.Content))
	})
	return tokens
}
