package train

import (
	"errors"
	"strings"
	"testing"
)

// wantKind fails unless err is of a kind and says every one of words.
func wantKind(t testing.TB, err, kind error, words ...string) {
	t.Helper()
	if err == nil || !errors.Is(err, kind) {
		t.Fatalf("the error is %v; it should be of kind %q", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q does not say %q", err, word)
		}
	}
}

func TestMark(t *testing.T) {
	cause := errors.New("cause")
	err := mark(ErrPeer, cause)
	if err.Error() != "cause" || !errors.Is(err, cause) || !errors.Is(err, ErrPeer) || errors.Is(err, ErrInput) {
		t.Errorf("%v, cause %v, peer %v, input %v", err, errors.Is(err, cause), errors.Is(err, ErrPeer), errors.Is(err, ErrInput))
	}
	if mark(ErrPeer, nil) != nil {
		t.Error("no error becomes one")
	}
}
