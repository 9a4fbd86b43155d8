package shard

import (
	"crypto/sha256"
	"math"
)

// heldOutSalt keeps the split independent of all else that is drawn from a document's hash. It is part of the format: another one
// would put documents on the other side.
const heldOutSalt = "ddprun held-out split"

// heldOut says which documents are held out: those whose salted hash falls in the first percent of the range. It looks at nothing but
// the text, so a document and its exact copies are on one side under any tokenizer, in any place and in any corpus; and a
// document that is held out at some percentage is so at any greater one.
type heldOut struct{ below uint64 }

// newHeldOut takes a percentage of at least 0 and below 100.
func newHeldOut(percent float64) heldOut {
	return heldOut{uint64(percent / 100 * math.Ldexp(1, 64))}
}

func (h heldOut) has(document [hashBytes]byte) bool {
	if h.below == 0 {
		return false
	}
	var salted [len(heldOutSalt) + hashBytes]byte
	copy(salted[:], heldOutSalt)
	copy(salted[len(heldOutSalt):], document[:])
	sum := sha256.Sum256(salted[:])
	return le.Uint64(sum[:]) < h.below
}
