package hf

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// sentencePiece is what T5 needs of a SentencePiece model
// (github.com/google/sentencepiece, src/sentencepiece_model.proto).
type sentencePiece struct {
	pieces    []piece
	modelType uint64 // 1: unigram, 2: BPE
	charsmap  []byte // compiled rules of normalization
}

type piece struct {
	text  string
	score float32
	kind  uint64
}

// Kinds of pieces and the model type of unigram.
const (
	pieceNormal      = 1
	pieceUnknown     = 2
	pieceControl     = 3
	pieceUserDefined = 4
	modelUnigram     = 1
)

// maxExtraIDs bounds T5's sentinel tokens, of which there are 100.
const maxExtraIDs = 100_000

// buildT5 makes T5's tokenizer from spiece.model, as transformers' T5Tokenizer does:
// the pieces, then the sentinels <extra_id_99> down to <extra_id_0>.
func (s *tokenizerSettings) buildT5() (jsonMap, error) {
	path := filepath.Join(s.dir, sentencePieceFile)
	data, err := readFile(path, maxTokenizerBytes)
	if err != nil {
		return nil, err
	}
	sp, err := parseSentencePiece(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	const unkID = 2 // fixed in T5Tokenizer
	if sp.modelType != modelUnigram || len(sp.pieces) <= unkID || sp.pieces[unkID].kind != pieceUnknown {
		return nil, fmt.Errorf("%s: is not a unigram model whose third piece is the unknown token, as T5's is", path)
	}
	extraIDs, err := s.config.Int("extra_ids", 100)
	if err != nil {
		return nil, err
	}
	if extraIDs < 0 || extraIDs > maxExtraIDs {
		return nil, fmt.Errorf("%s: extra_ids is %d, not within 0 and %d", s.config.path, extraIDs, maxExtraIDs)
	}
	vocab, ids, specials := t5Vocab(sp.pieces, extraIDs)
	roles, err := s.rolesWithDefaults()
	if err != nil {
		return nil, err
	}
	tokens, err := s.addTokens(ids, roles, specials)
	if err != nil {
		return nil, err
	}
	eosID, ok := tokens.of(roles["eos_token"].Content)
	if !ok {
		return nil, fmt.Errorf("%s: names no eos_token, which ends T5's input", s.config.path)
	}
	var normalizer jsonMap
	if len(sp.charsmap) > 0 {
		normalizer = jsonMap{"type": "Precompiled", "precompiled_charsmap": base64.StdEncoding.EncodeToString(sp.charsmap)}
	}
	const eos = "</s>" // the template's own spelling, whatever the token
	end := templateToken(eos, 0)
	template := templateProcessing(
		[]jsonMap{templateSequence("A", 0), end},
		[]jsonMap{templateSequence("A", 0), end, templateSequence("B", 0), end},
		map[string]int{eos: eosID})
	metaspace := jsonMap{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true}
	preTokenizer := jsonMap{"type": "Sequence", "pretokenizers": []jsonMap{{"type": "WhitespaceSplit"}, metaspace}}
	model := jsonMap{"type": "Unigram", "unk_id": unkID, "vocab": vocab, "byte_fallback": false}
	return tokenizerObject(tokens.sorted(), model, normalizer, preTokenizer, template, metaspace), nil
}

// t5Vocab is the pieces with their scores, the sentinels after them; the id of each;
// and those of them that are special tokens.
func t5Vocab(pieces []piece, extraIDs int) (vocab [][2]any, ids map[string]int, specials []addedToken) {
	ids = make(map[string]int, len(pieces)+extraIDs)
	for _, p := range pieces {
		ids[p.text] = len(vocab)
		vocab = append(vocab, [2]any{p.text, float64(p.score)})
		if p.kind == pieceControl || p.kind == pieceUserDefined {
			specials = append(specials, addedToken{Content: p.text, Special: p.kind == pieceControl})
		}
	}
	for i := extraIDs - 1; i >= 0; i-- {
		token := fmt.Sprintf("<extra_id_%d>", i)
		ids[token] = len(vocab)
		vocab = append(vocab, [2]any{token, 0.0})
		specials = append(specials, addedToken{Content: token, Special: true})
	}
	return vocab, ids, specials
}

// parseSentencePiece reads the fields of ModelProto that are needed.
func parseSentencePiece(data []byte) (*sentencePiece, error) {
	sp := &sentencePiece{modelType: modelUnigram}
	err := eachField(data, func(field protowire.Number, value []byte, _ uint64) error {
		switch field {
		case 1:
			p, err := parsePiece(value)
			if err != nil {
				return fmt.Errorf("piece %d: %w", len(sp.pieces), err)
			}
			sp.pieces = append(sp.pieces, p)
		case 2: // trainer_spec
			return eachField(value, func(field protowire.Number, _ []byte, number uint64) error {
				if field == 3 {
					sp.modelType = number
				}
				return nil
			})
		case 3: // normalizer_spec
			return eachField(value, func(field protowire.Number, value []byte, _ uint64) error {
				if field == 2 {
					sp.charsmap = value
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && len(sp.pieces) == 0 {
		err = errors.New("has no pieces")
	}
	if err != nil {
		return nil, fmt.Errorf("not a SentencePiece model: %w", err)
	}
	return sp, nil
}

func parsePiece(data []byte) (piece, error) {
	p := piece{kind: pieceNormal}
	err := eachField(data, func(field protowire.Number, value []byte, number uint64) error {
		switch field {
		case 1:
			p.text = string(value)
		case 2:
			p.score = math.Float32frombits(uint32(number))
		case 3:
			p.kind = number
		}
		return nil
	})
	switch {
	case err != nil:
		return piece{}, err
	case !utf8.ValidString(p.text):
		return piece{}, errors.New("is not UTF-8")
	case math.IsNaN(float64(p.score)) || math.IsInf(float64(p.score), 0):
		return piece{}, fmt.Errorf("%q has the score %v", p.text, p.score)
	}
	return p, nil
}

// eachField calls visit with each field of a protobuf message: value holds what has
// a length, number the rest.
func eachField(data []byte, visit func(field protowire.Number, value []byte, number uint64) error) error {
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(data)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(data)
		case protowire.Fixed32Type:
			var fixed uint32
			fixed, n = protowire.ConsumeFixed32(data)
			number = uint64(fixed)
		default:
			n = protowire.ConsumeFieldValue(field, kind, data)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if err := visit(field, value, number); err != nil {
			return err
		}
	}
	return nil
}
