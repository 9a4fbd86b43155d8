package train

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddprun/ddprun/internal/checkpoint"
	"github.com/ddprun/ddprun/internal/config"
)

// finishedRun is a run of 4 lanes with a checkpoint of its last step, 2.
func finishedRun(t testing.TB) (*config.Config, *Job) {
	t.Helper()
	c := settings(t, goldenModel, "max_steps=2", "save_strategy=steps", "global_batch_size=8")
	job := newJob(t, c, 33)
	run(t, job)
	return c, job
}

func TestCheckStart(t *testing.T) {
	c, job := finishedRun(t)
	digest := func() (string, error) { return job.Train.Digest(), nil }
	with := func(change func(*config.Config)) *config.Config {
		other := *c
		change(&other)
		return &other
	}
	t.Run("goes on", func(t *testing.T) {
		for _, world := range []int{1, 3, 4} {
			longer := with(func(c *config.Config) { c.MaxSteps, c.SaveSteps, c.LogLevel = 20, 7, "debug" })
			if lanes, err := CheckStart(context.Background(), longer, "", world, world, digest); lanes != 4 || err != nil {
				t.Errorf("%d ranks: %d lanes, %v", world, lanes, err)
			}
			if lanes, err := CheckStart(context.Background(), longer, "", world, 9, digest); lanes != 4 || err != nil {
				t.Errorf("%d to 9 ranks: %d lanes, %v", world, lanes, err)
			}
		}
	})
	t.Run("begins", func(t *testing.T) {
		elsewhere := with(func(c *config.Config) { c.OutputDir = filepath.Join(t.TempDir(), "other") })
		lanes, err := CheckStart(context.Background(), elsewhere, "", 2, 2, func() (string, error) {
			t.Error("the digest of samples is not needed")
			return "", nil
		})
		if lanes != 4 || err != nil {
			t.Errorf("%d lanes, %v", lanes, err)
		}
		if _, err := os.Stat(elsewhere.OutputDir); err == nil {
			t.Error("output_dir was made")
		}
	})
	for _, bad := range []struct {
		name   string
		c      *config.Config
		world  int
		digest func() (string, error)
		said   []string
	}{
		{"keys", with(func(c *config.Config) { c.Seed, c.AdamBeta1 = 7, 0.8 }), 1, digest,
			[]string{"checkpoint-2", "seed: 42 then, 7 now", "adam_beta1: 0.9 then, 0.8 now", "overwrite_output_dir: true"}},
		{"weights", with(func(c *config.Config) { c.Data = config.Data{{Paths: []string{"text.txt"}, Weight: 2}} }), 1, digest,
			[]string{"data: ", `"weight":2`, "cannot go on"}},
		{"text", c, 1, func() (string, error) { return "other", nil }, []string{"checkpoint-2", "data", "changed"}},
		{"text that cannot be read", c, 1, func() (string, error) { return "", os.ErrPermission }, []string{"permission denied"}},
		{"ranks", c, 5, digest, []string{"5 ranks", "4 lanes"}},
		{"unasked", with(func(c *config.Config) { c.ResumeFromCheckpoint = checkpoint.ResumeNone }), 1, digest, []string{"holds a run"}},
		{"lanes", with(func(c *config.Config) { c.OutputDir = "elsewhere" }), 5, digest, []string{"global_batch_size"}},
	} {
		t.Run(bad.name, func(t *testing.T) {
			_, err := CheckStart(context.Background(), bad.c, "", bad.world, bad.world, bad.digest)
			wantKind(t, err, ErrInput, bad.said...)
		})
	}
}

// A key that only the version knows which wrote the checkpoint is a difference like any other.
func TestResumeFromALaterVersion(t *testing.T) {
	c, job := finishedRun(t)
	d, err := checkpoint.Decide(context.Background(), c.OutputDir, checkpoint.ResumeAuto, false)
	if err != nil || d.Resume == nil {
		t.Fatal(d, err)
	}
	state := &d.Resume.State
	state.Config = append(bytes.TrimSuffix(state.Config, []byte("}")), `,"of_tomorrow":5}`...)
	_, err = resumable(c, 1, job.Train.Digest(), d.Resume)
	if want := "checkpoint-2: of_tomorrow: 5 then, not a key now; "; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the error %v does not say %q", err, want)
	}
}
