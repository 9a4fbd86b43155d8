package shard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	workPrefix = ".work-"
	// workKept is how long the finished parts of a corpus that nobody completes are kept.
	workKept = 7 * 24 * time.Hour
	// claimStale is how long a claim may stand still before another node takes it over.
	claimStale = 60 * time.Second
	// workPoll is how often a node looks for the parts of others.
	workPoll = 250 * time.Millisecond

	claimSuffix = ".claim"
	finishClaim = "index"
)

// workshop is the directory in which the parts of a corpus are made, by several nodes at once. Parts and index appear by renames;
// claims only save work: two nodes that make the same part write the same bytes.
type workshop struct {
	cfg   *PrepareConfig
	index *index
	dir   string // .work-<digest>
	final string
	parts []part
	done  []*manifest // of each part, nil: not done yet
	meter *meter
	seen  map[string]standing // claims of others
	made  int                 // parts that this process has made
}

// standing is a claim's modification time and since when, by this process's clock, it has been that.
type standing struct {
	modified time.Time
	since    time.Time
}

func newWorkshop(cfg *PrepareConfig, x *index, m *meter) *workshop {
	digest := x.digest()
	w := &workshop{cfg: cfg, index: x, final: corpusDir(cfg.Dir, digest), parts: cutParts(x.Sources, x.Options.PartBytes), meter: m,
		seen: map[string]standing{}}
	w.dir = filepath.Join(cfg.Dir, workPrefix+filepath.Base(w.final))
	w.done = make([]*manifest, len(w.parts))
	return w
}

// run makes what is not done, waits for what others make, and gives the whole its name. The caller holds the host's lock.
func (w *workshop) run(ctx context.Context) error {
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return fmt.Errorf("shard: %w", err)
	}
	if err := removeAll(w.dir, tmpPrefix+w.cfg.host+"-"); err != nil {
		return err
	}
	var bytes int64
	for _, p := range w.parts {
		bytes += p.bytes
	}
	w.meter.begin(false, bytes, len(w.parts))
	maker := newPartMaker(w.cfg, w.index, w.dir, w.meter)
	for {
		finished, err := w.pass(ctx, maker)
		// Whoever has finished has moved the directory away under the others.
		_, openErr := openPrepared(w.final, w.index.Digest)
		switch {
		case openErr == nil:
			return nil
		case err != nil:
			return errors.Join(err, w.leaveNothing())
		case finished:
			return openErr
		}
		if err := os.MkdirAll(w.dir, 0o755); err != nil {
			return fmt.Errorf("shard: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("shard: wait for the parts that other nodes prepare: %w", ctx.Err())
		case <-time.After(workPoll):
		}
	}
}

// pass makes every part that nobody has claimed, and publishes where all are done.
func (w *workshop) pass(ctx context.Context, maker *partMaker) (finished bool, err error) {
	missing := 0
	for i, p := range w.parts {
		if w.done[i] != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if w.done[i], err = readManifest(w.dir, w.index, p); err != nil {
			return false, err
		}
		if w.done[i] == nil {
			if w.done[i], err = w.makePart(ctx, maker, p); err != nil {
				return false, err
			}
		}
		if w.done[i] == nil {
			missing++
			continue
		}
		if err := w.check(w.done[i]); err != nil {
			return false, err
		}
		w.meter.partsDone.Add(1)
		w.meter.finished(p.bytes)
	}
	if missing > 0 {
		return false, nil
	}
	return w.publish(ctx)
}

// check refuses a part in which another run skipped what this one is to stop at.
func (w *workshop) check(m *manifest) error {
	if w.cfg.OnError == OnErrorSkip || len(m.Skipped.Examples) == 0 {
		return nil
	}
	return stopAt(m.Skipped)
}

func stopAt(skipped Skipped) error {
	return fmt.Errorf("shard: %s (the first of %d bad records that an earlier run skipped; on_error: skip takes its shards)",
		skipped.Examples[0], skipped.Total())
}

// makePart returns nil where another node makes the part.
func (w *workshop) makePart(ctx context.Context, maker *partMaker, p part) (*manifest, error) {
	release, err := w.claim(ctx, strings.TrimSuffix(manifestName(p.number), ".json"))
	if release == nil {
		return nil, err
	}
	defer release()
	// It may have been done between the look and the claim.
	m, err := readManifest(w.dir, w.index, p)
	if m == nil && err == nil {
		m, err = maker.make(ctx, p)
		w.made++
	}
	return m, err
}

// claim takes the named piece of work, and renews the claim until release is called. release is nil where another node has it.
func (w *workshop) claim(ctx context.Context, name string) (release func(), err error) {
	path := filepath.Join(w.dir, name+claimSuffix)
	for {
		err := w.createClaim(path)
		if err == nil {
			return renew(ctx, path, w.cfg.claimStale/6), nil
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil // another node has given the directory its name, or up
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("shard: claim: %w", err)
		}
		if !w.stale(path) {
			return nil, nil
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("shard: take a claim over: %w", err)
		}
	}
}

// createClaim creates a claim with its owner in it, at once: a kill may not leave one of nobody. It is an error if there is one.
func (w *workshop) createClaim(path string) error {
	f, err := os.CreateTemp(w.dir, tmpPrefix+w.cfg.host+"-claim-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(w.cfg.host + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	err = os.Link(f.Name(), path)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
		// No hard links here: a kill between these two costs the next process claimStale.
		if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err == nil {
			_, err = f.WriteString(w.cfg.host + "\n")
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// stale says whether a claim's owner is dead: of this host, since the lock is ours; of another, since the claim has stood still for
// long enough by this process's own clock, whatever the clocks of other nodes and of the file system say.
func (w *workshop) stale(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false // it has just gone; the next pass sees what became of it
	}
	if owner, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(owner)) == w.cfg.host {
		return true
	}
	now, last := time.Now(), w.seen[path]
	if last.since.IsZero() || !last.modified.Equal(info.ModTime()) {
		w.seen[path] = standing{modified: info.ModTime(), since: now}
		return false
	}
	return now.Sub(last.since) >= w.cfg.claimStale
}

// renew sets a claim's modification time again and again until release is called, which removes the claim.
func renew(ctx context.Context, path string, every time.Duration) (release func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-ticker.C:
				_ = os.Chtimes(path, now, now) // a claim that is lost costs work, no more
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		os.Remove(path)
	}
}

// publish writes the index and gives the directory its name.
func (w *workshop) publish(ctx context.Context) (bool, error) {
	release, err := w.claim(ctx, finishClaim)
	if release == nil {
		return false, err
	}
	defer release()
	// Another node may have published between this one's look and its making the directory anew, and be at work on what it has published.
	if _, err := openPrepared(w.final, w.index.Digest); err == nil {
		return true, os.RemoveAll(w.dir)
	}
	x := *w.index
	x.Sources = append([]Source(nil), x.Sources...)
	if err := x.collect(w.parts, w.done); err != nil {
		return false, err
	}
	if err := x.write(w.cfg.host, w.dir); err != nil {
		return false, fmt.Errorf("shard: %w", err)
	}
	// What has the name already did not open, so it goes.
	if err := os.RemoveAll(w.final); err != nil {
		return false, fmt.Errorf("shard: %w", err)
	}
	if err := os.Rename(w.dir, w.final); err != nil {
		return false, fmt.Errorf("shard: %w", err)
	}
	if err := syncDir(w.cfg.Dir); err != nil {
		return false, fmt.Errorf("shard: %w", err)
	}
	return true, sweep(w.final)
}

// sweep removes what the making of a corpus has left in its directory, the claim last: as long as it lies there, there is more. Temporary files
// of who already makes samples there stay: the next one that makes samples removes what is left of those (samples.go).
func sweep(dir string) error {
	for _, prefix := range []string{"part-", tmpPrefix, finishClaim + claimSuffix} {
		if err := removeBut(dir, prefix, "-samples-"); err != nil {
			return err
		}
	}
	return nil
}

// swept says whether sweep has been there.
func swept(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, finishClaim+claimSuffix))
	return errors.Is(err, os.ErrNotExist)
}

// leaveNothing removes the directory of a work that has failed before anything in it was done, unless another node is at work there.
func (w *workshop) leaveNothing() error {
	for _, p := range w.parts {
		if m, err := readManifest(w.dir, w.index, p); err != nil || m != nil && len(m.Shards) > 0 {
			return err
		}
	}
	if claims, err := filepath.Glob(filepath.Join(w.dir, "*"+claimSuffix)); err != nil || len(claims) > 0 {
		return err
	}
	for _, prefix := range []string{"part-", "shard-"} {
		if err := removeAll(w.dir, prefix); err != nil {
			return err
		}
	}
	_ = os.Remove(w.dir) // unless another node has just begun there
	return nil
}

// lastTouched is the newest modification time of a directory and what lies in it; what cannot be looked at is as good as new.
func lastTouched(dir string) time.Time {
	newest := time.Time{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return time.Now()
	}
	names := []string{dir}
	for _, entry := range entries {
		names = append(names, filepath.Join(dir, entry.Name()))
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest
}

// openPrepared opens the corpus of that digest and closes it again, for what its index says.
func openPrepared(dir, digest string) (*index, error) {
	corpus, err := Open(dir, OpenConfig{})
	if err != nil {
		return nil, err
	}
	if corpus.Digest() != digest {
		err = fmt.Errorf("shard: %s holds the corpus %s, not %s", dir, corpus.Digest(), digest)
	}
	return corpus.index, errors.Join(err, corpus.Close())
}

func corpusDir(dir string, digest [sha256.Size]byte) string {
	return filepath.Join(dir, hex.EncodeToString(digest[:16]))
}
