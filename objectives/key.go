package objectives

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// Key names one draw of a sample. Keys that differ in any part give independent draws.
type Key struct {
	Seed   uint64
	Epoch  uint64
	Sample uint64
}

// purpose keeps the draws of different uses apart where their keys are equal. Its bytes are part of what makes a run
// reproducible: never change one.
type purpose [8]byte

var (
	purposeMLM  = purpose{'m', 'l', 'm', ' ', 'm', 'a', 's', 'k'}
	purposePair = purpose{'p', 'a', 'i', 'r', ' ', 's', 'i', 'd'}

	purposeMixture        = purpose{'m', 'i', 'x', 't', 'u', 'r', 'e', ' '}
	purposeReconstruction = purpose{'w', 'o', 'r', 'd', 's', ' ', 'm', 'v'}
	purposeSpans          = purpose{'s', 'p', 'a', 'n', 's', ' ', 'c', 'o'}
)

// generator is ChaCha8 keyed by (purpose, Key). The algorithm is specified (C2SP chacha8rand), so draws are the same in every
// version of Go; what turns its words into numbers is here for the same reason.
type generator struct {
	chacha rand.ChaCha8
}

// start puts the generator at the beginning of a key's draws.
func (g *generator) start(p purpose, k Key) {
	var seed [32]byte
	copy(seed[:8], p[:])
	binary.LittleEndian.PutUint64(seed[8:], k.Seed)
	binary.LittleEndian.PutUint64(seed[16:], k.Epoch)
	binary.LittleEndian.PutUint64(seed[24:], k.Sample)
	g.chacha.Seed(seed)
}

// uniform returns a multiple of 2^-53 in [0, 1).
func (g *generator) uniform() float64 {
	return float64(g.chacha.Uint64()>>11) / (1 << 53)
}

// below returns a number in [0, n), each exactly as likely (Lemire, "Fast Random Integer Generation in an Interval", 2019).
func (g *generator) below(n int) int {
	bound := uint64(n)
	high, low := bits.Mul64(g.chacha.Uint64(), bound)
	if low < bound {
		for reject := -bound % bound; low < reject; {
			high, low = bits.Mul64(g.chacha.Uint64(), bound)
		}
	}
	return int(high)
}
