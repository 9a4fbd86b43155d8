package shard

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

const (
	shingleTokens    = 5   // of the runs of tokens that near duplicates share
	signatureHashes  = 128 // minima in a signature: an estimate of similarity s is off by sqrt(s (1 - s) / 128)
	signatureBytes   = 4 * signatureHashes
	nearSeed         = 1    // of the hash functions; with them, part of the meaning of "near"
	nearRecall       = 0.95 // of pairs exactly at the threshold, at least
	shingleMultiply  = 0x9e3779b97f4a7c15
	shingleMultiply2 = 0xd6e8feb86659fd93
)

// minHasher makes MinHash signatures (Broder 1997): the smallest value of each of many hash functions over a set. The share of equal
// minima in two signatures estimates the Jaccard similarity of the sets. The functions are datasketch's scheme affine32: permutations a m(h) + b
// mod 2^32 of a 32-bit hash h, a odd and m MurmurHash3's last steps.
type minHasher struct{ a, b [signatureHashes]uint32 }

func newMinHasher(seed uint64) *minHasher {
	var key [32]byte
	copy(key[:], "ddprun minhash")
	binary.LittleEndian.PutUint64(key[24:], seed)
	r := rand.New(rand.NewChaCha8(key))
	m := new(minHasher)
	for i := range m.a {
		m.a[i], m.b[i] = r.Uint32()|1, r.Uint32()
	}
	return m
}

// signature is the minimum of each hash function so far.
type signature [signatureHashes]uint32

func (s *signature) reset() {
	for i := range s {
		s[i] = math.MaxUint32
	}
}

// add adds an element, given by its 32-bit hash.
func (m *minHasher) add(s *signature, hash uint32) {
	hash = (hash ^ hash>>16) * 0x85ebca6b
	hash = (hash ^ hash>>13) * 0xc2b2ae35
	hash ^= hash >> 16
	for i := range s {
		s[i] = min(s[i], m.a[i]*hash+m.b[i])
	}
}

// sign makes the signature of a document's set of 5-grams. A document of fewer tokens is one element by itself.
func (m *minHasher) sign(s *signature, tokens []uint32) {
	s.reset()
	for i := 0; i == 0 || i+shingleTokens <= len(tokens); i++ {
		m.add(s, shingleHash(tokens[i:min(len(tokens), i+shingleTokens)]))
	}
}

// shingleHash mixes tokens into 32 bits (multiply and shift, finished as in Stafford's variants of MurmurHash3).
func shingleHash(tokens []uint32) uint32 {
	h := uint64(len(tokens))
	for _, t := range tokens {
		h = (h ^ uint64(t)) * shingleMultiply
		h ^= h >> 32
	}
	h *= shingleMultiply2
	return uint32(h >> 32)
}

// encode writes the signature to b.
func (s *signature) encode(b []byte) {
	for i, v := range s {
		le.PutUint32(b[4*i:], v)
	}
}

// equalMinima counts the minima that two encoded signatures share.
func equalMinima(a, b []byte) int {
	n := 0
	for i := 0; i < signatureBytes; i += 4 {
		if le.Uint32(a[i:]) == le.Uint32(b[i:]) {
			n++
		}
	}
	return n
}

// bands is how signatures are cut for locality-sensitive hashing: documents that agree in all rows of some band are compared.
type bands struct{ number, rows int }

// bandsFor chooses the longest rows with which pairs exactly at the threshold are found with probability nearRecall; pairs above it are found more
// surely. Candidates are verified, so short rows cost time alone.
func bandsFor(threshold float64) bands {
	for rows := signatureHashes; rows > 1; rows-- {
		if b := (bands{signatureHashes / rows, rows}); b.found(threshold) >= nearRecall {
			return b
		}
	}
	return bands{signatureHashes, 1}
}

// found is the probability that two documents of that similarity agree in some band.
func (b bands) found(similarity float64) float64 {
	return 1 - math.Pow(1-math.Pow(similarity, float64(b.rows)), float64(b.number))
}

// key is the hash of a band of an encoded signature.
func (b bands) key(signature []byte, band int) uint64 {
	h := uint64(band) + 1
	for _, row := 0, band*b.rows; row < (band+1)*b.rows; row++ {
		h = (h ^ uint64(le.Uint32(signature[4*row:]))) * shingleMultiply
		h ^= h >> 32
	}
	h *= shingleMultiply2
	return h ^ h>>29
}
