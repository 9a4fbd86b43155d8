package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
)

// CutsAtSpaces says whether a text's tokens, with their word starts and without special tokens, are those of its pieces one after another
// when it is cut at any space or line feed. It knows that of BERT's way alone, where white space parts words and nothing looks across it; others, which
// make spaces part of tokens or treat a text's start as a word's, are said not to.
func CutsAtSpaces(tokenizerJSON []byte) bool {
	var file struct {
		Normalizer   *struct{ Type string }
		PreTokenizer *struct{ Type string } `json:"pre_tokenizer"`
		Model        struct{ Type string }
		AddedTokens  []struct{ Content string } `json:"added_tokens"`
	}
	if json.Unmarshal(tokenizerJSON, &file) != nil {
		return false
	}
	for _, token := range file.AddedTokens {
		if strings.ContainsFunc(token.Content, unicode.IsSpace) {
			return false
		}
	}
	return file.PreTokenizer != nil && file.PreTokenizer.Type == "BertPreTokenizer" &&
		(file.Normalizer == nil || file.Normalizer.Type == "BertNormalizer") && slices.Contains([]string{"WordPiece", ""}, file.Model.Type)
}
