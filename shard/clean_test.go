package shard

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

// streamsOf prepares each list of documents, one a line, as a corpus.
func streamsOf(t testing.TB, shardBytes int64, streams ...[]string) []*Corpus {
	t.Helper()
	var corpora []*Corpus
	for _, documents := range streams {
		dir := t.TempDir()
		path := filepath.Join(dir, "text.txt")
		writeFile(t, path, strings.Join(documents, "\n")+"\n")
		cfg := lineConfig(filepath.Join(dir, "cache"), path)
		cfg.TextUnit, cfg.SentenceUnit, cfg.ShardBytes = TextLine, SentenceNone, shardBytes
		corpora = append(corpora, open(t, prepare(t, cfg).Dir))
	}
	return corpora
}

func clean(t testing.TB, training, eval []*Corpus, cfg CleanConfig) *Cleaned {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	c, err := Clean(context.Background(), training, eval, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// members lists a set.
func members(s *DocumentSet) []int64 {
	list := []int64{}
	for d := range s.documents {
		if s.Has(d) {
			list = append(list, d)
		}
	}
	return list
}

func sets(c *Cleaned) (lists [][]int64) {
	for _, s := range append(slices.Clone(c.Training), c.HeldOut...) {
		lists = append(lists, members(s))
	}
	return lists
}

func tokensOf(text string) []uint32 {
	e, _ := testEncoder{vocab: 30000}.Encode([]string{text})
	return e[0].IDs
}

// randomStreams are short documents of few words, so many come again.
func randomStreams(r *rand.Rand) (streams [][]string) {
	for range 1 + r.IntN(3) {
		var documents []string
		for range 1 + r.IntN(200) {
			words := []string{"ant"}
			for range r.IntN(4) {
				words = append(words, []string{"ant", "bee", "cow"}[r.IntN(3)])
			}
			documents = append(documents, strings.Join(words, " "))
		}
		streams = append(streams, documents)
	}
	return streams
}

// wantReasons says what becomes of each document but for near duplicates, computed from the texts.
func wantReasons(streams [][]string, eval []string, cfg CleanConfig) [][]string {
	seen := map[string]bool{}
	split := newHeldOut(cfg.HeldOutPercent)
	all := make([][]string, len(streams))
	for i, documents := range streams {
		for _, text := range documents {
			n, sum := int64(len(tokensOf(text))), sha256.Sum256([]byte(text))
			why := "training"
			switch {
			case n < cfg.MinTokens:
				why = "too_short"
			case cfg.MaxTokens > 0 && n > cfg.MaxTokens:
				why = "too_long"
			case cfg.Deduplicate == DeduplicateExact && slices.Contains(eval, text):
				why = "in_eval_data"
			case cfg.Deduplicate == DeduplicateExact && seen[text]:
				why = "exact_duplicate"
			case split.has([hashBytes]byte(sum[:hashBytes])):
				why = "held_out"
			}
			seen[text] = true
			all[i] = append(all[i], why)
		}
	}
	return all
}

func TestCleanAgainstAnOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	rounds := 12
	if os.Getenv("DDPRUN_TEST_ALL") != "" {
		rounds = 300
	}
	for round := range rounds {
		streams, eval := randomStreams(r), randomStreams(r)[0]
		eval = eval[:min(len(eval), 4)]
		cfg := CleanConfig{MinTokens: int64(r.IntN(3)), Deduplicate: []Deduplicate{DeduplicateNone, DeduplicateExact}[r.IntN(2)],
			HeldOutPercent: []float64{0, 30}[r.IntN(2)], PassDocuments: int64(1 + r.IntN(300)), Threads: 1 + r.IntN(4)}
		if r.IntN(2) == 0 {
			cfg.MaxTokens = 3
		}
		want := wantReasons(streams, eval, cfg)
		cfg.Dir = t.TempDir()
		cleaned, err := Clean(context.Background(), streamsOf(t, int64(100+r.IntN(500)), streams...), streamsOf(t, 0, eval), cfg)
		flat := slices.Concat(want...)
		if !slices.Contains(flat, "training") || cfg.HeldOutPercent > 0 && !slices.Contains(flat, "held_out") {
			wantError(t, err, "no document is left")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range streams {
			for side, s := range map[string][]*DocumentSet{"training": cleaned.Training, "held_out": cleaned.HeldOut} {
				list := []int64{}
				for d, why := range want[i] {
					if why == side {
						list = append(list, int64(d))
					}
				}
				if s == nil && cfg.HeldOutPercent == 0 {
					continue
				}
				if got := members(s[i]); !reflect.DeepEqual(got, list) {
					t.Errorf("round %d, %+v: stream %d, %s: documents %v, want %v", round, cfg, i, side, got, list)
				}
			}
			checkReport(t, streams, eval, i, want[i], cleaned.Report.Streams[i])
		}
		cleaned.Close()
	}
}

// checkReport holds a stream's report to the reasons.
func checkReport(t *testing.T, streams [][]string, eval []string, stream int, want []string, got CleanStream) {
	t.Helper()
	if got.Documents != int64(len(want)) {
		t.Errorf("stream %d: %d documents, want %d", stream, got.Documents, len(want))
	}
	counted := map[string]bool{}
	for _, x := range got.Reasons {
		counted[x.Reason] = true
		var lines []int64
		tokens := 0
		for d, why := range want {
			if why == x.Reason {
				lines = append(lines, int64(d+1))
				tokens += len(tokensOf(streams[stream][d]))
			}
		}
		if x.Documents != int64(len(lines)) || x.Tokens != int64(tokens) {
			t.Errorf("stream %d: %s: %d documents of %d tokens, want %d of %d", stream, x.Reason, x.Documents, x.Tokens, len(lines), tokens)
		}
		if x.Reason == "training" {
			lines = nil
		}
		lines = lines[:min(len(lines), examplesOfReason)]
		if len(x.Examples) != len(lines) {
			t.Fatalf("stream %d: %s: %d examples, want %d", stream, x.Reason, len(x.Examples), len(lines))
		}
		for i, e := range x.Examples {
			if e.Line != lines[i] {
				t.Errorf("stream %d: %s: example %d is of line %d, want %d", stream, x.Reason, i, e.Line, lines[i])
			}
			text := streams[stream][e.Line-1]
			if again := x.Reason == "exact_duplicate" || x.Reason == "in_eval_data"; again != (e.Of != nil) {
				t.Errorf("stream %d: %s: example %d comes again as %v", stream, x.Reason, i, e.Of)
			} else if again && !sameText(streams, eval, text, x.Reason, e.Of) {
				t.Errorf("stream %d: %q is not that of %+v", stream, text, e.Of)
			}
		}
	}
	for _, why := range want {
		if !counted[why] {
			t.Errorf("stream %d: nothing is said of %s", stream, why)
			counted[why] = true
		}
	}
}

func sameText(streams [][]string, eval []string, text, reason string, of *DocumentPlace) bool {
	if reason == "in_eval_data" {
		return eval[of.Line-1] == text
	}
	for _, documents := range streams {
		if of.Line <= int64(len(documents)) && documents[of.Line-1] == text {
			return true
		}
	}
	return false
}

// The result depends on neither threads, passes nor shards.
func TestCleanIsDeterministic(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	documents := nearText(r, 300)
	for _, kind := range []Deduplicate{DeduplicateExact, DeduplicateNear} {
		var first [][]int64
		for i, c := range []CleanConfig{{Threads: 1}, {Threads: 2}, {Threads: 5, PassDocuments: 100}, {Threads: 1, PassDocuments: 37}} {
			c.Deduplicate, c.HeldOutPercent = kind, 10
			got := sets(clean(t, streamsOf(t, int64(20_000*(i+1)), documents), nil, c))
			if first == nil {
				first = got
			} else if !reflect.DeepEqual(got, first) {
				t.Errorf("%s, %+v: other documents", kind, c)
			}
		}
	}
}

// nearText is documents of random words, about half of them changed copies of earlier ones.
func nearText(r *rand.Rand, n int) []string {
	var documents []string
	for len(documents) < n {
		words := make([]string, 60+r.IntN(60))
		for i := range words {
			words[i] = fmt.Sprintf("%03d", r.IntN(1000))
		}
		if len(documents) > 0 && r.IntN(2) == 0 {
			words = strings.Fields(documents[r.IntN(len(documents))])
			share := []float64{0.002, 0.01, 0.02, 0.05, 0.2}[r.IntN(5)]
			for i := range words {
				if r.Float64() < share {
					words[i] = fmt.Sprintf("%03d", r.IntN(1000))
				}
			}
		}
		documents = append(documents, strings.Join(words, " "))
	}
	return documents
}

// Near duplicates are those of a search through all pairs of signatures, and by the true similarity as many as the theory says.
func TestNearDuplicatesAgainstAllPairs(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	var surePairs, sureFound, wrong int
	for range 3 {
		documents := nearText(r, 400)
		cleaned := clean(t, streamsOf(t, 50_000, documents), nil, CleanConfig{Deduplicate: DeduplicateNear})
		kept := map[int]bool{}
		for _, d := range members(cleaned.Training[0]) {
			kept[int(d)] = true
		}
		hasher := newMinHasher(nearSeed)
		encoded := make([][]byte, len(documents))
		for i, text := range documents {
			var s signature
			hasher.sign(&s, tokensOf(text))
			encoded[i] = make([]byte, signatureBytes)
			s.encode(encoded[i])
		}
		group := make([]int, len(documents)) // the first of each one's component
		for i := range group {
			group[i] = i
		}
		root := func(i int) int {
			for group[i] != i {
				i = group[i]
			}
			return i
		}
		for i := range documents {
			for j := range i {
				if equalMinima(encoded[i], encoded[j]) >= 103 { // 0.8 of 128
					a, b := root(i), root(j)
					group[max(a, b)] = min(a, b)
				}
			}
		}
		missed := 0
		for i := range documents {
			switch first := root(i) == i; {
			case first && !kept[i]:
				t.Errorf("document %d is dropped, and is like none before it", i)
			case !first && kept[i]:
				missed++
			}
			similar := 0.0
			for j := range i {
				if equalMinima(encoded[i], encoded[j]) < 40 { // 0.31: sure to be below 0.65
					continue
				}
				similar = max(similar, likeness(tokensOf(documents[i]), tokensOf(documents[j])))
			}
			if similar >= 0.88 {
				surePairs++
				if !kept[i] {
					sureFound++
				}
			}
			if similar <= 0.65 && !kept[i] {
				wrong++
			}
		}
		if missed > len(documents)/50 {
			t.Errorf("%d of %d documents are missed by the bands", missed, len(documents))
		}
	}
	t.Logf("%d of %d documents that are like an earlier one by 0.88 or more are dropped; of those unlike by 0.65 or less, %d", sureFound, surePairs, wrong)
	if surePairs < 100 || float64(sureFound) < 0.98*float64(surePairs) || wrong > 0 {
		t.Errorf("%d of %d are found, %d wrongly", sureFound, surePairs, wrong)
	}
}

// A near copy is on no other side of the split than its group's first document, and none is in the evaluation's text and the training's.
func TestNearCopiesAreOnOneSide(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 4))
	documents := nearText(r, 300)
	eval := []string{documents[0], documents[1] + " a few more words"}
	cleaned := clean(t, streamsOf(t, 9000, documents[:150], documents[150:]), streamsOf(t, 0, eval), CleanConfig{Deduplicate: DeduplicateNear, HeldOutPercent: 40})
	var sides [3][]string
	sides[2] = eval
	for i, offset := range []int64{0, 150} {
		for _, d := range members(cleaned.Training[i]) {
			sides[0] = append(sides[0], documents[offset+d])
		}
		for _, d := range members(cleaned.HeldOut[i]) {
			sides[1] = append(sides[1], documents[offset+d])
		}
	}
	if len(sides[0]) < 40 || len(sides[1]) < 20 || cleaned.Report.Count("in_eval_data") < 2 || cleaned.Report.Count("near_duplicate") < 20 {
		t.Fatalf("%s", cleaned.Report.String())
	}
	for a := range sides {
		for b := range a {
			for _, x := range sides[a] {
				for _, y := range sides[b] {
					if s := likeness(tokensOf(x), tokensOf(y)); s >= 0.9 {
						t.Errorf("documents alike by %v are on two sides", s)
					}
				}
			}
		}
	}
}

// The split looks at the text alone: neither tokenizer, shards nor the order of the files change it; the share is a binomial draw, and copies of a document
// stay together.
func TestHeldOutSplit(t *testing.T) {
	const n = 20_000
	var documents []string
	for i := range n {
		documents = append(documents, fmt.Sprintf("document %d", i))
	}
	documents = append(documents, documents[:500]...)
	held := func(c *Corpus, texts []string, percent float64) map[string]bool {
		cleaned := clean(t, []*Corpus{c}, nil, CleanConfig{HeldOutPercent: percent})
		side := map[string]bool{}
		for d, text := range texts {
			now := cleaned.HeldOut[0].Has(int64(d))
			if before, seen := side[text]; seen && before != now || now == cleaned.Training[0].Has(int64(d)) {
				t.Fatalf("%q is on both sides or none", text)
			}
			side[text] = now
		}
		return side
	}
	corpus := streamsOf(t, 0, documents)[0]
	first := held(corpus, documents, 5)
	count := 0
	larger := held(corpus, documents, 12.5)
	for text, is := range first {
		if is {
			count++
			if !larger[text] {
				t.Errorf("%q is held out at 5 percent and not at 12.5", text)
			}
		}
	}
	if deviation := math.Sqrt(n * 0.05 * 0.95); math.Abs(float64(count)-0.05*n) > 4*deviation {
		t.Errorf("%d of %d are held out at 5 percent", count, n)
	}
	shuffled := slices.Clone(documents)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "b.txt"), strings.Join(shuffled, "\n"))
	cfg := PrepareConfig{Dir: dir + "/cache", Paths: []string{dir + "/b.txt"}, TextUnit: TextLine, SentenceUnit: SentenceLine, ShardBytes: 3000,
		Encoder: testEncoder{vocab: 70000, name: "other"}}
	if other := held(open(t, prepare(t, cfg).Dir), shuffled, 5); !reflect.DeepEqual(other, first) {
		t.Error("another tokenizer, order and size of shards: another split")
	}
}

// The split of these documents is pinned, as Python's hashlib computes it too: another one would evaluate on what was trained on.
func TestHeldOutSplitIsPinned(t *testing.T) {
	split := newHeldOut(10)
	var got []int
	for i := range 60 {
		sum := sha256.Sum256([]byte(fmt.Sprint("document ", i)))
		if split.has([hashBytes]byte(sum[:])) {
			got = append(got, i)
		}
	}
	if want := []int{15, 29, 37, 51, 52, 57}; !reflect.DeepEqual(got, want) {
		t.Errorf("held out: %v, want %v", got, want)
	}
	if newHeldOut(0).has([hashBytes]byte{}) {
		t.Error("0 percent hold something out")
	}
}

func TestCleanIsFoundAgain(t *testing.T) {
	text := []string{"one two", "one two", "three four five", "six"}
	corpora := streamsOf(t, 0, text, text)
	cfg := CleanConfig{Dir: t.TempDir(), Deduplicate: DeduplicateExact}
	first := clean(t, corpora, nil, cfg)
	if first.Reused {
		t.Error("it was there before it was made")
	}
	again := clean(t, corpora, nil, cfg)
	if !again.Reused || !reflect.DeepEqual(again.Report, first.Report) || !reflect.DeepEqual(sets(again), sets(first)) {
		t.Errorf("found again: %+v, made: %+v", again.Report, first.Report)
	}
	for stream := range corpora {
		digest, err := DocumentsDigest(contentDigests(corpora), nil, cfg, stream)
		if err != nil || digest != first.Training[stream].Digest() {
			t.Errorf("stream %d: named %s, %v ahead, %s afterwards", stream, digest, err, first.Training[stream].Digest())
		}
	}
	for name, change := range map[string]func(*CleanConfig, *[]*Corpus, *[]*Corpus){
		"lengths": func(c *CleanConfig, _, _ *[]*Corpus) { c.MinTokens = 2 },
		"none":    func(c *CleanConfig, _, _ *[]*Corpus) { c.Deduplicate = DeduplicateNone },
		"near":    func(c *CleanConfig, _, _ *[]*Corpus) { c.Deduplicate = DeduplicateNear },
		"share":   func(c *CleanConfig, _, _ *[]*Corpus) { c.HeldOutPercent = 60 },
		"streams": func(_ *CleanConfig, training, _ *[]*Corpus) { *training = (*training)[:1] },
		"eval data": func(_ *CleanConfig, training, eval *[]*Corpus) {
			*training, *eval = (*training)[:1], streamsOf(t, 0, []string{"six"})
		},
	} {
		other, training, eval := cfg, corpora, []*Corpus(nil)
		change(&other, &training, &eval)
		c := clean(t, training, eval, other)
		if c.Reused || c.Training[0].Digest() == first.Training[0].Digest() {
			t.Errorf("%s: it is the same set", name)
		}
	}
	// What is damaged is made anew.
	path := filepath.Join(first.Dir, setName(1, trainingSide))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := sets(first)
	data[len(data)-1] ^= 1
	if err := os.WriteFile(path+"x", data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"x", path); err != nil { // first has the old file mapped
		t.Fatal(err)
	}
	if c := clean(t, corpora, nil, cfg); c.Reused || !reflect.DeepEqual(sets(c), want) {
		t.Error("a damaged set is not made anew")
	}
}

func TestCleanAtTheSameTime(t *testing.T) {
	corpora := streamsOf(t, 100, randomStreams(rand.New(rand.NewPCG(1, 2)))...)
	dir := t.TempDir()
	var group sync.WaitGroup
	made := make([]bool, 6)
	for i := range made {
		group.Go(func() {
			c, err := Clean(context.Background(), corpora, nil, CleanConfig{Dir: dir, Deduplicate: DeduplicateExact})
			if err != nil {
				t.Error(err)
				return
			}
			made[i] = !c.Reused
			c.Close()
		})
	}
	group.Wait()
	n := 0
	for _, m := range made {
		if m {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d of %d did the work", n, len(made))
	}
	if left, _ := filepath.Glob(filepath.Join(dir, tmpPrefix+"*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// A run that ends at any stage leaves nothing that a later one would take for whole.
func TestCleanInterrupted(t *testing.T) {
	corpora := streamsOf(t, 500, nearText(rand.New(rand.NewPCG(9, 2)), 100))
	cfg := CleanConfig{Dir: t.TempDir(), Deduplicate: DeduplicateNear, MinTokens: 3, HeldOutPercent: 10}
	for _, at := range []string{"lengths", "exact", "near", "held out", "sets"} {
		ctx, cancel := context.WithCancel(context.Background())
		cfg.stage = func(name string) {
			if name == at {
				cancel()
			}
		}
		if _, err := Clean(ctx, corpora, nil, cfg); err == nil || ctx.Err() == nil {
			t.Errorf("stopped before %s: %v", at, err)
		}
		cancel()
		if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "*")); len(left) > 1 { // the lock
			t.Errorf("stopped before %s: left %v", at, left)
		}
	}
	cfg.stage = nil
	if c := clean(t, corpora, nil, cfg); c.Reused {
		t.Error("what was interrupted was taken for whole")
	}
}

func TestCleanRefuses(t *testing.T) {
	corpora := streamsOf(t, 0, []string{"one two three"})
	for want, cfg := range map[string]CleanConfig{
		"none, exact or near":  {Deduplicate: "fuzzy"},
		"above 0 and at most":  {NearThreshold: 1.5},
		"below 100":            {HeldOutPercent: 100},
		"no document is such":  {MinTokens: 5, MaxTokens: 4},
		"1 too_short":          {MinTokens: 50},
		"to hold out":          {HeldOutPercent: 1e-9},
		"it is at least 0 and": {HeldOutPercent: math.NaN()},
	} {
		cfg.Dir = t.TempDir()
		_, err := Clean(context.Background(), corpora, nil, cfg)
		wantError(t, err, want)
	}
}
