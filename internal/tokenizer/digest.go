package tokenizer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Digest returns the SHA-256, in hexadecimal, of a tokenizer.json in a canonical form: keys sorted, no white space, and
// without truncation and padding, which New drops too. So it is the same for files that give the same ids but were
// saved with other settings or other formatting. Whether the tokenizer is a good one is for New to say.
func Digest(tokenizerJSON []byte) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(tokenizerJSON))
	decoder.UseNumber() // scores keep their digits
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return "", fmt.Errorf("tokenizer: digest of tokenizer.json: %w", err)
	}
	delete(fields, "truncation")
	delete(fields, "padding")
	canonical, err := json.Marshal(fields)
	if err != nil {
		return "", fmt.Errorf("tokenizer: digest of tokenizer.json: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}
