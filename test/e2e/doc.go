// Package e2e holds tests of the two programs as people run them: real processes, a small model, a small text.
//
// TestMain builds ddprun and ddprun-worker once, into a temporary directory; that needs the environment of scripts/env.sh. Each file
// of tests is one promise of the main job: the same losses at any number of ranks, resuming bit for bit, refusing bad input without
// a trace, skipping what is not finite, surviving a full disk, leaving no orphan, evaluating the same everywhere, and writing what
// transformers loads. With DDPRUN_TEST_ALL=1 the tests that kill at random do so many more times.
package e2e
