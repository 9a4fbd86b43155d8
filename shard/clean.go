package shard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sort"
)

// Deduplicate says which documents count as duplicates.
type Deduplicate string

const (
	DeduplicateNone  Deduplicate = "none"
	DeduplicateExact Deduplicate = "exact" // equal texts
	DeduplicateNear  Deduplicate = "near"  // also texts whose sets of token 5-grams are alike
)

// CleanConfig says which documents count.
type CleanConfig struct {
	Dir string // holds what Clean makes, beside the corpora: PrepareConfig.Dir

	MinTokens, MaxTokens int64 // of a document, without special tokens; 0: no bound

	Deduplicate   Deduplicate // default: none
	NearThreshold float64     // estimated Jaccard similarity from which on documents are near duplicates; default 0.8

	HeldOutPercent float64 // of the documents, by their hashes; at least 0 and below 100

	Threads       int          // default: GOMAXPROCS
	PassDocuments int64        // that are compared at once, 20 to 40 bytes of memory each; default 3 Mi, which take 64 MiB
	Waiting       func()       // called before waiting for another process that cleans
	stage         func(string) // tests stop here
}

// Cleaned are the documents that count. The caller closes it after all Samples that use its sets.
type Cleaned struct {
	Training []*DocumentSet // of each training corpus
	HeldOut  []*DocumentSet // of each training corpus; nil if HeldOutPercent is 0
	Report   CleanReport
	Dir      string // holds the sets and the report
	Reused   bool   // all was there already
}

// ReportPath is the file of the Report, which has the examples too.
func (c *Cleaned) ReportPath() string { return filepath.Join(c.Dir, reportName) }

// Close unmaps the sets.
func (c *Cleaned) Close() error {
	var errs []error
	for _, s := range append(c.Training, c.HeldOut...) {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (cfg *CleanConfig) check() error {
	if cfg.Deduplicate == "" {
		cfg.Deduplicate = DeduplicateNone
	}
	if cfg.NearThreshold == 0 {
		cfg.NearThreshold = 0.8
	}
	if cfg.Threads == 0 {
		cfg.Threads = runtime.GOMAXPROCS(0)
	}
	if cfg.PassDocuments == 0 {
		cfg.PassDocuments = 3 << 20
	}
	switch d := cfg.Deduplicate; {
	case d != DeduplicateNone && d != DeduplicateExact && d != DeduplicateNear:
		return fmt.Errorf("shard: duplicates are %q; it is none, exact or near", d)
	case !(cfg.NearThreshold > 0 && cfg.NearThreshold <= 1):
		return fmt.Errorf("shard: near duplicates are alike by %v; it is above 0 and at most 1", cfg.NearThreshold)
	case !(cfg.HeldOutPercent >= 0 && cfg.HeldOutPercent < 100):
		return fmt.Errorf("shard: %v percent are held out; it is at least 0 and below 100", cfg.HeldOutPercent)
	case cfg.MinTokens < 0 || cfg.MaxTokens < 0 || cfg.MaxTokens > 0 && cfg.MaxTokens < cfg.MinTokens:
		return fmt.Errorf("shard: documents of %d to %d tokens; no document is such", cfg.MinTokens, cfg.MaxTokens)
	case cfg.Threads < 1 || cfg.PassDocuments < 1:
		return fmt.Errorf("shard: %d threads, %d documents a pass; it is at least 1", cfg.Threads, cfg.PassDocuments)
	}
	return nil
}

// Needed tells whether the configuration leaves out any document: otherwise all count, and there is nothing to do.
func (cfg CleanConfig) Needed() bool {
	return cfg.MinTokens > 0 || cfg.MaxTokens > 0 || cfg.HeldOutPercent > 0 || cfg.Deduplicate != "" && cfg.Deduplicate != DeduplicateNone
}

// DocumentsDigest is the Digest of a training set that [Clean] gives for corpora of these contents (Corpus.ContentDigest or
// [ContentDigest]), in their order; stream is the training corpus's place. It makes nothing.
func DocumentsDigest(training, eval []string, cfg CleanConfig, stream int) (string, error) {
	if err := cfg.check(); err != nil {
		return "", err
	}
	digest := setDigest(cfg.digest(training, eval), stream, trainingSide)
	return hex.EncodeToString(digest[:]), nil
}

// The two sides of the held-out split.
const (
	trainingSide = "training"
	heldOutSide  = "held-out"
)

func (cfg *CleanConfig) digest(training, eval []string) [sha256.Size]byte {
	threshold := cfg.NearThreshold
	if cfg.Deduplicate != DeduplicateNear {
		threshold = 0
	}
	eval = append([]string{}, eval...) // none is not null
	if cfg.Deduplicate == DeduplicateNone {
		eval = eval[:0]
	}
	h := sha256.New()
	// Encoding strings and numbers into a hash cannot fail.
	_ = json.NewEncoder(h).Encode([]any{"ddprun documents", setVersion, training, eval, cfg.MinTokens, cfg.MaxTokens, cfg.Deduplicate, threshold, cfg.HeldOutPercent})
	return [sha256.Size]byte(h.Sum(nil))
}

func setDigest(all [sha256.Size]byte, stream int, side string) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%x %d %s", all, stream, side))
}

// Clean finds out which documents of the training corpora count: those of a length in bounds, without duplicates (the first one stays, in the order
// of the corpora) and, where duplicates are dropped at all, without those that the evaluation's corpora have too. Of what is left, a share is held
// out. The result lies on disk under a name that follows from the contents and the configuration, and is found again; one process of a node
// works, the others wait. Memory does not depend on the number of documents but for a few bits of each.
func Clean(ctx context.Context, training, eval []*Corpus, cfg CleanConfig) (*Cleaned, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Deduplicate == DeduplicateNone {
		eval = nil
	}
	digest := cfg.digest(contentDigests(training), contentDigests(eval))
	dir := filepath.Join(cfg.Dir, fmt.Sprintf("clean-%x", digest[:16]))
	if c, err := openCleaned(dir, digest, training, &cfg); err == nil {
		c.Reused = true
		return c, nil
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	// Prepare's lock: it removes what processes of this node have left half-written, as is done here.
	unlock, err := lockFile(ctx, filepath.Join(cfg.Dir, lockName+"-"+thisHost()), cfg.Waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Another process may have made it while this one waited.
	if c, err := openCleaned(dir, digest, training, &cfg); err == nil {
		c.Reused = true
		return c, nil
	}
	if err := removeAll(cfg.Dir, tmpPrefix+thisHost()+"-"); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil { // it is damaged
		return nil, fmt.Errorf("shard: %w", err)
	}
	if err := makeCleaned(ctx, dir, digest, training, eval, &cfg); err != nil {
		return nil, err
	}
	return openCleaned(dir, digest, training, &cfg)
}

func contentDigests(corpora []*Corpus) []string {
	digests := []string{}
	for _, c := range corpora {
		digests = append(digests, c.ContentDigest())
	}
	return digests
}

func setName(stream int, side string) string { return fmt.Sprintf("%s-%d.set", side, stream) }

// openCleaned opens what was made before.
func openCleaned(dir string, digest [sha256.Size]byte, training []*Corpus, cfg *CleanConfig) (_ *Cleaned, err error) {
	c := &Cleaned{Dir: dir}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err := c.Report.read(filepath.Join(dir, reportName), digest); err != nil {
		return nil, err
	}
	open := func(stream int, side string, sets *[]*DocumentSet) error {
		set, err := openDocumentSet(filepath.Join(dir, setName(stream, side)), setDigest(digest, stream, side), training[stream].Counts().Documents)
		if err == nil {
			*sets = append(*sets, set)
		}
		return err
	}
	for stream := range training {
		if err := open(stream, trainingSide, &c.Training); err != nil {
			return nil, err
		}
		if cfg.HeldOutPercent > 0 {
			if err := open(stream, heldOutSide, &c.HeldOut); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// makeCleaned does the work and puts the result at dir, whole. The caller holds the lock.
func makeCleaned(ctx context.Context, dir string, digest [sha256.Size]byte, training, eval []*Corpus, cfg *CleanConfig) error {
	k := newCleaner(training, eval, cfg)
	var err error
	if k.dir, err = os.MkdirTemp(cfg.Dir, tmpPrefix+thisHost()+"-"); err != nil {
		return fmt.Errorf("shard: %w", err)
	}
	defer os.RemoveAll(k.dir) // it is gone if all went well
	if k.reasons, err = newScratch(k.dir, k.documents); err != nil {
		return err
	}
	defer k.reasons.close()
	if err := k.run(ctx, digest); err != nil {
		return err
	}
	if err := os.Chmod(k.dir, 0o755); err != nil {
		return fmt.Errorf("shard: %w", err)
	}
	if err := os.Rename(k.dir, dir); err != nil {
		if _, other := os.Stat(filepath.Join(dir, reportName)); other == nil {
			return nil // another node was faster, and made the same
		}
		return fmt.Errorf("shard: %w", err)
	}
	if err := syncDir(cfg.Dir); err != nil {
		return fmt.Errorf("shard: %w", err)
	}
	return nil
}

// cleaner goes through the documents of all corpora, which it numbers: first those of the evaluation, which are before all
// others, then those of the training corpora in order.
type cleaner struct {
	cfg           *CleanConfig
	dir           string
	training      []*Corpus
	corpora       []*Corpus
	shards        []shardPlace
	documents     int64
	evalDocuments int64
	evalCorpora   int

	reasons  *scratch // a byte for each document: its reason
	examples map[exampleKey][]duplicateOf
}

// shardPlace is a shard among those of all corpora.
type shardPlace struct {
	corpus, shard    int
	first, documents int64 // numbers over all corpora
	inCorpus         int64 // number of the first document in its corpus
}

func newCleaner(training, eval []*Corpus, cfg *CleanConfig) *cleaner {
	k := &cleaner{cfg: cfg, training: training, corpora: append(append([]*Corpus{}, eval...), training...), evalCorpora: len(eval),
		examples: map[exampleKey][]duplicateOf{}}
	for i, c := range k.corpora {
		if i == len(eval) {
			k.evalDocuments = k.documents
		}
		inCorpus := int64(0)
		for j, entry := range c.index.Shards {
			k.shards = append(k.shards, shardPlace{i, j, k.documents, entry.Documents, inCorpus})
			k.documents += entry.Documents
			inCorpus += entry.Documents
		}
	}
	return k
}

// run decides on each document, in the order of the reasons, and writes the sets and the report.
func (k *cleaner) run(ctx context.Context, digest [sha256.Size]byte) error {
	stages := []struct {
		name   string
		wanted bool
		do     func(context.Context) error
	}{
		{"lengths", k.cfg.MinTokens > 0 || k.cfg.MaxTokens > 0, k.dropByLength},
		{"exact", k.cfg.Deduplicate != DeduplicateNone, k.dropExact},
		{"near", k.cfg.Deduplicate == DeduplicateNear, k.dropNear},
		{"held out", k.cfg.HeldOutPercent > 0, k.holdOut},
		{"sets", true, func(ctx context.Context) error { return k.write(ctx, digest) }},
	}
	for _, stage := range stages {
		if !stage.wanted {
			continue
		}
		if k.cfg.stage != nil {
			k.cfg.stage(stage.name)
		}
		if err := stage.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// eachOf calls f for each document of shard i with its number over all corpora and in the shard.
func (k *cleaner) eachOf(ctx context.Context, i int, f func(n int64, file *shardFile, d int64) error) (err error) {
	at := k.shards[i]
	file, err := k.corpora[at.corpus].shard(at.shard)
	if err != nil {
		return err
	}
	defer file.release()
	defer faultError(file.path, debug.SetPanicOnFault(true), &err)
	for d := range at.documents {
		if d%4096 == 0 && ctx.Err() != nil {
			return fmt.Errorf("shard: %w", ctx.Err())
		}
		if err := f(at.first+d, file, d); err != nil {
			return err
		}
	}
	return nil
}

// each is eachOf over all shards in order.
func (k *cleaner) each(ctx context.Context, f func(n int64, file *shardFile, d int64) error) error {
	for i := range k.shards {
		if err := k.eachOf(ctx, i, f); err != nil {
			return err
		}
	}
	return nil
}

// place returns the shard that document n lies in.
func (k *cleaner) place(n int64) shardPlace {
	return k.shards[sort.Search(len(k.shards), func(i int) bool { return k.shards[i].first+k.shards[i].documents > n })]
}

// find returns document n as number d of a shard, which the caller releases.
func (k *cleaner) find(n int64) (file *shardFile, d int64, err error) {
	at := k.place(n)
	file, err = k.corpora[at.corpus].shard(at.shard)
	return file, n - at.first, err
}

// eachTraining calls f for each training document that still counts, over all threads.
func (k *cleaner) eachTraining(ctx context.Context, f func(n int64, file *shardFile, d int64)) error {
	return parallel(ctx, k.cfg.Threads, len(k.shards), func() func(int) error {
		return func(i int) error {
			return k.eachOf(ctx, i, func(n int64, file *shardFile, d int64) error {
				if n >= k.evalDocuments && k.reasons.data[n] == byte(counts) {
					f(n, file, d)
				}
				return nil
			})
		}
	})
}

func (k *cleaner) dropByLength(ctx context.Context) error {
	longest := k.cfg.MaxTokens
	if longest == 0 {
		longest = math.MaxInt64
	}
	return k.eachTraining(ctx, func(n int64, file *shardFile, d int64) {
		switch start, end := file.document(d); {
		case end-start < k.cfg.MinTokens:
			k.reasons.data[n] = byte(tooShort)
		case end-start > longest:
			k.reasons.data[n] = byte(tooLong)
		}
	})
}

// holdOut comes last: of each group of duplicates, what is left decides by its own hash, and the others are on no side.
func (k *cleaner) holdOut(ctx context.Context) error {
	split := newHeldOut(k.cfg.HeldOutPercent)
	return k.eachTraining(ctx, func(n int64, file *shardFile, d int64) {
		if split.has(file.docHash(d)) {
			k.reasons.data[n] = byte(isHeldOut)
		}
	})
}
