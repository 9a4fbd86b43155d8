package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// FormatVersion is the version of ddprun_state.json and of what optimizer.safetensors means. A program reads its own
// version and older ones.
const FormatVersion = 2

// State is ddprun_state.json: what is needed, beside tensors, to go on exactly where the checkpoint was taken.
type State struct {
	// SHA256 is the digest of the file itself with zeros in this field's place. It and Version come first and are
	// filled by Save, as is Files.
	SHA256  string `json:"sha256"`
	Version int    `json:"version"`

	// The position: Step optimizer updates are done, EpochStep of them in epoch number Epoch (from 0).
	Step      int64 `json:"step"`
	Epoch     int64 `json:"epoch"`
	EpochStep int64 `json:"epoch_step"`
	// OptimizerSteps is AdamW's own count: steps that were skipped for a gradient that is not finite are not in it.
	OptimizerSteps int64 `json:"optimizer_steps"`
	// Lanes is fixed for the whole run, whatever number of ranks goes on with it.
	Lanes int   `json:"lanes"`
	Seeds Seeds `json:"seeds"`
	// Generation is the launch that wrote this.
	Generation  uint64      `json:"generation"`
	Environment Environment `json:"environment"`
	// ShardsDigest identifies the token shards and with them the meaning of every sample number.
	ShardsDigest string `json:"shards_digest"`
	// PlanDigest names the boundaries of the micro-batches of the epoch that the last step lay in, where they are cut by tokens. (Version 2.)
	PlanDigest string `json:"plan_digest,omitempty"`
	// Config is the resolved configuration, which internal/config compares with the resuming run's.
	Config json.RawMessage `json:"config"`
	// Files are all other files of the directory by their slash-separated path in it.
	Files map[string]File `json:"files"`
}

// Seeds are where all randomness comes from.
type Seeds struct {
	Seed int64 `json:"seed"`
	Data int64 `json:"data"`
	Eval int64 `json:"eval"`
}

// File is what a file must be.
type File struct {
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Environment is what a bitwise equal continuation depends on beside the state.
type Environment struct {
	Ranks    int    `json:"ranks"`
	Threads  int    `json:"threads"` // of each rank
	Device   string `json:"device"`
	Libtorch string `json:"libtorch"`
}

// Differences lists what has changed from e to now, one sentence part each. Where there is any, the run goes on with the
// same samples and draws, but not bit for bit.
func (e Environment) Differences(now Environment) []string {
	var list []string
	add := func(what string, then, now any) {
		if then != now {
			list = append(list, fmt.Sprintf("%s: %v then, %v now", what, then, now))
		}
	}
	add("ranks", e.Ranks, now.Ranks)
	add("threads per rank", e.Threads, now.Threads)
	add("device", e.Device, now.Device)
	add("libtorch", e.Libtorch, now.Libtorch)
	return list
}

const (
	digestPrefix = "{\n  \"sha256\": \""
	noDigest     = "0000000000000000000000000000000000000000000000000000000000000000"
)

// encode returns the file's content with its own digest in it.
func (s State) encode() ([]byte, error) {
	s.SHA256, s.Version = noDigest, FormatVersion
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	data = append(data, '\n')
	copy(data[len(digestPrefix):], hexDigest(data))
	return data, nil
}

// decodeState reads what encode wrote and refuses what has changed since.
func decodeState(data []byte) (State, error) {
	end := len(digestPrefix) + len(noDigest)
	if len(data) < end || !bytes.HasPrefix(data, []byte(digestPrefix)) {
		return State{}, fmt.Errorf("is damaged: it does not begin with its checksum")
	}
	blank := bytes.Clone(data)
	copy(blank[len(digestPrefix):], noDigest)
	if want := string(data[len(digestPrefix):end]); hexDigest(blank) != want {
		return State{}, fmt.Errorf("is damaged or was edited: its SHA-256 is not the one it names, %s", want)
	}
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("does not read as JSON: %w", err)
	}
	if s.Version < 1 || s.Version > FormatVersion {
		return State{}, fmt.Errorf("has format version %d, and this ddprun reads versions up to %d: "+
			"continue with the ddprun that wrote it or a newer one", s.Version, FormatVersion)
	}
	return s, nil
}

func hexDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// join lists errors or names in a message.
func join[T any](list []T) string {
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = fmt.Sprint(e)
	}
	return strings.Join(parts, "; ")
}
