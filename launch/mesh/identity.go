package mesh

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// What a TLS connection is for, as ALPN names.
const (
	useControl = "ddprun-control/1" // between two agents
	useGossip  = "ddprun-gossip/1"  // memberlist's streams
	useEcho    = "ddprun-echo/1"    // Probe
)

var errOtherKey = errors.New("it has another key than this job")

// identity is what the job's key makes of an agent. All agents of a job have the same one.
type identity struct {
	tls       *tls.Config // for both ends; see config
	gossipKey []byte      // 32 bytes, AES-256
}

// newIdentity derives an agent's secrets from the job's key; without one it draws a certificate and takes any other.
func newIdentity(key []byte, runID string) (*identity, error) {
	seed := make([]byte, ed25519.SeedSize)
	secret := key
	var err error
	if len(key) == 0 {
		secret = []byte("insecure")
		_, err = rand.Read(seed)
	} else {
		seed, err = hkdf.Key(sha256.New, key, nil, "ddprun mesh tls 1", ed25519.SeedSize)
	}
	if err != nil {
		return nil, fmt.Errorf("mesh: derive the TLS key: %w", err)
	}
	gossipKey, err := hkdf.Key(sha256.New, secret, nil, "ddprun mesh gossip 1 "+runID, 32)
	if err != nil {
		return nil, fmt.Errorf("mesh: derive the gossip key: %w", err)
	}
	cert, err := certificate(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{cert},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // no authority signs and no name matters: VerifyConnection compares the key
		SessionTicketsDisabled: true, // each connection proves the key anew
		CurvePreferences:       []tls.CurveID{tls.X25519},
		NextProtos:             []string{useControl, useGossip, useEcho},
	}
	if len(key) > 0 {
		public := cert.Leaf.PublicKey.(ed25519.PublicKey)
		config.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) != 1 {
				return errOtherKey
			}
			theirs, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
			if !ok || !bytes.Equal(theirs, public) {
				return errOtherKey
			}
			return nil
		}
	}
	return &identity{tls: config, gossipKey: gossipKey}, nil
}

// config returns the configuration of the end that dials, for one use.
func (i *identity) config(use string) *tls.Config {
	c := i.tls.Clone()
	c.NextProtos = []string{use}
	return c
}

// certificate wraps a key, as TLS wants it. Its times say nothing, since clocks may be apart.
func certificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("mesh: make the certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("mesh: make the certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// refusedKey says whether err is the other side's refusal of this agent's certificate, which crypto/tls shows by its text alone.
func refusedKey(err error) bool {
	return err != nil && strings.Contains(err.Error(), "remote error: tls: bad certificate")
}
