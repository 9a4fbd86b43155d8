package shard

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

// touchAll reads all that can be read of a corpus.
func touchAll(dir string, verify Verify) error {
	c, err := Open(dir, OpenConfig{Verify: verify})
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.Samples(context.Background(), SampleConfig{Unit: Sentence, MaxTokens: 9, Dir: filepath.Join(dir, "samples")})
	if err != nil {
		return err
	}
	defer s.Close()
	var sample Sample
	for i := range s.Len() {
		if err := s.At(i, &sample); err != nil {
			return err
		}
		if _, err := s.Origin(i); err != nil {
			return err
		}
	}
	return nil
}

func TestVerify(t *testing.T) {
	report, _ := corpusOf(t, someText(40), func(cfg *PrepareConfig) { cfg.ShardBytes = 500 })
	path := filepath.Join(report.Dir, shardName(0, 1))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[headerBytes] ^= 1 // another token, in the vocabulary
	writeFile(t, path, string(bad))
	if c, err := Open(report.Dir, OpenConfig{}); err != nil {
		t.Errorf("opening reads no shard by default: %v", err)
	} else {
		c.Close()
	}
	_, err = Open(report.Dir, OpenConfig{Verify: VerifyOpen})
	wantError(t, err, shardName(0, 1), "checksum", "prepare the corpus again")
	wantError(t, touchAll(report.Dir, VerifyFirstUse), shardName(0, 1), "checksum")
	if err := touchAll(report.Dir, VerifyNever); err != nil {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	_, c := corpusOf(t, someText(3), nil)
	s := samplesOf(t, c, SampleConfig{Unit: Window, MaxTokens: 4})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.At(0, new(Sample)); err != ErrClosed {
		t.Errorf("closed samples: %v", err)
	}
	s = samplesOf(t, c, SampleConfig{Unit: Window, MaxTokens: 4})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.At(0, new(Sample)); err != ErrClosed {
		t.Errorf("a closed corpus: %v", err)
	}
}
