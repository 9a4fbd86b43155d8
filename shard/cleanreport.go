package shard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
)

const (
	reportName       = "report.json"
	reportFormat     = "ddprun-clean"
	examplesOfReason = 20
)

// reason is what becomes of a document.
type reason byte

const (
	counts reason = iota // it is trained on
	tooShort
	tooLong
	inEvalData
	exactDuplicate
	nearDuplicate
	isHeldOut
	reasons
)

var reasonNames = [reasons]string{"training", "too_short", "too_long", "in_eval_data", "exact_duplicate", "near_duplicate", "held_out"}

// CleanReport says what became of the documents of each training corpus.
type CleanReport struct {
	Format  string        `json:"format"`
	Version int           `json:"version"`
	Digest  string        `json:"digest"`
	Streams []CleanStream `json:"streams"`
}

// CleanStream says what became of a training corpus's documents. Each is counted under one reason: the first that holds, in this order: too_short,
// too_long, in_eval_data, exact_duplicate, near_duplicate, held_out, training.
type CleanStream struct {
	Documents int64         `json:"documents"`
	Tokens    int64         `json:"tokens"`
	Reasons   []CleanReason `json:"reasons"` // those that some document has
}

// CleanReason counts the documents of a corpus that one thing became of.
type CleanReason struct {
	Reason    string         `json:"reason"`
	Documents int64          `json:"documents"`
	Tokens    int64          `json:"tokens"`
	Examples  []CleanExample `json:"examples,omitempty"` // the first ones
}

// CleanExample is a document that was dropped or held out.
type CleanExample struct {
	DocumentPlace
	// Of is the document that stays in its place; of a group of near duplicates the first.
	Of *DocumentPlace `json:"of,omitempty"`
}

// DocumentPlace is where a document lies in its source.
type DocumentPlace struct {
	Path   string `json:"path"`
	Line   int64  `json:"line"`
	Offset int64  `json:"offset"`
}

// Count is how many documents of all streams a reason has.
func (r *CleanReport) Count(reason string) int64 {
	var n int64
	for _, s := range r.Streams {
		for _, x := range s.Reasons {
			if x.Reason == reason {
				n += x.Documents
			}
		}
	}
	return n
}

// Reasons are the names of all that may become of a document, in the order in which they are decided.
func (*CleanReport) Reasons() []string { return append(reasonNames[1:], reasonNames[0]) }

func (r *CleanReport) read(path string, digest [sha256.Size]byte) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("shard: %w", err)
	}
	if err := json.Unmarshal(data, r); err != nil {
		return fmt.Errorf("shard: %s: %w", path, err)
	}
	if r.Format != reportFormat || r.Version != setVersion || r.Digest != hex.EncodeToString(digest[:]) {
		return fmt.Errorf("shard: %s is no report of these documents", path)
	}
	return nil
}

func (r *CleanReport) write(path string) error {
	return writeFileAtomic(path, func(f *os.File) error {
		encoder := json.NewEncoder(f)
		encoder.SetIndent("", " ")
		return encoder.Encode(r)
	})
}

type exampleKey struct {
	stream int
	reason reason
}

// duplicateOf is an example on its way: the numbers of two documents.
type duplicateOf struct{ n, of int64 }

// drop marks document n, which comes again as document of: that of the evaluation if it is one.
func (k *cleaner) drop(n int64, why reason, of int64) {
	if of < k.evalDocuments {
		why = inEvalData
	}
	k.reasons.data[n] = byte(why)
	key := exampleKey{k.place(n).corpus, why}
	list := k.examples[key]
	if len(list) == examplesOfReason && list[len(list)-1].n < n {
		return
	}
	// Passes come upon documents out of order, and the first ones are wanted.
	i := sort.Search(len(list), func(i int) bool { return list[i].n > n })
	list = append(list, duplicateOf{})
	copy(list[i+1:], list[i:])
	list[i] = duplicateOf{n, of}
	k.examples[key] = list[:min(len(list), examplesOfReason)]
}

// write writes the sets, and the report of all.
func (k *cleaner) write(ctx context.Context, digest [sha256.Size]byte) error {
	report := CleanReport{Format: reportFormat, Version: setVersion, Digest: hex.EncodeToString(digest[:])}
	var training, heldOut int64
	for stream := range k.training {
		s, sets, err := k.gather(ctx, stream)
		if err != nil {
			return err
		}
		report.Streams = append(report.Streams, s)
		for side, set := range sets {
			if set == nil {
				continue
			}
			path := filepath.Join(k.dir, setName(stream, side))
			if err := set.write(path, setDigest(digest, stream, side)); err != nil {
				return fmt.Errorf("shard: %s: %w", path, err)
			}
		}
		training += sets[trainingSide].counted
		if set := sets[heldOutSide]; set != nil {
			heldOut += set.counted
		}
	}
	if training == 0 {
		return fmt.Errorf("shard: %w to train on: %s", ErrNoDocument, report.String())
	}
	if k.cfg.HeldOutPercent > 0 && heldOut == 0 {
		return fmt.Errorf("shard: %w to hold out: %v percent of %d documents are too few; hold out more of them, or cut the text into smaller documents",
			ErrNoDocument, k.cfg.HeldOutPercent, training)
	}
	if err := report.write(filepath.Join(k.dir, reportName)); err != nil {
		return fmt.Errorf("shard: %s: %w", reportName, err)
	}
	return nil
}

// ErrNoDocument is wrapped by the error for corpora of which no document is left for training, or none for the held-out set.
var ErrNoDocument = errors.New("no document is left")

// gather counts a stream's documents and builds its sets.
func (k *cleaner) gather(ctx context.Context, stream int) (CleanStream, map[string]*setBuilder, error) {
	corpus := k.evalCorpora + stream
	c := k.corpora[corpus]
	s := CleanStream{Documents: c.Counts().Documents, Tokens: c.Counts().Tokens}
	sets := map[string]*setBuilder{trainingSide: newSetBuilder(s.Documents)}
	if k.cfg.HeldOutPercent > 0 {
		sets[heldOutSide] = newSetBuilder(s.Documents)
	}
	var by [reasons]CleanReason
	for i, at := range k.shards {
		if at.corpus != corpus {
			continue
		}
		err := k.eachOf(ctx, i, func(n int64, file *shardFile, d int64) error {
			why := reason(k.reasons.data[n])
			start, end := file.document(d)
			by[why].Documents++
			by[why].Tokens += end - start
			switch why {
			case counts:
				sets[trainingSide].add(at.inCorpus+d, end-start)
				return nil
			case isHeldOut:
				sets[heldOutSide].add(at.inCorpus+d, end-start)
			}
			if !why.isOfAnother() && len(by[why].Examples) < examplesOfReason {
				by[why].Examples = append(by[why].Examples, CleanExample{DocumentPlace: c.documentPlace(file, d)})
			}
			return nil
		})
		if err != nil {
			return s, nil, err
		}
	}
	for why := range reasons {
		why = (why + 1) % reasons // what is trained on comes last
		if by[why].Documents == 0 {
			continue
		}
		by[why].Reason = reasonNames[why]
		for _, x := range k.examples[exampleKey{corpus, why}] {
			example, err := k.example(x)
			if err != nil {
				return s, nil, err
			}
			by[why].Examples = append(by[why].Examples, example)
		}
		s.Reasons = append(s.Reasons, by[why])
	}
	return s, sets, nil
}

// isOfAnother: the document was dropped since another one is there.
func (r reason) isOfAnother() bool {
	return r == inEvalData || r == exactDuplicate || r == nearDuplicate
}

func (k *cleaner) example(x duplicateOf) (CleanExample, error) {
	var places [2]DocumentPlace
	for i, n := range []int64{x.n, x.of} {
		file, d, err := k.find(n)
		if err != nil {
			return CleanExample{}, err
		}
		places[i] = k.corpora[k.place(n).corpus].documentPlace(file, d)
		file.release()
	}
	return CleanExample{DocumentPlace: places[0], Of: &places[1]}, nil
}

func (c *Corpus) documentPlace(file *shardFile, d int64) DocumentPlace {
	return DocumentPlace{c.index.Sources[file.docSource(d)].Path, file.docLine(d), file.docOffset(d)}
}

// String is one line: the number of documents, and of each reason.
func (r *CleanReport) String() string {
	var documents int64
	for _, s := range r.Streams {
		documents += s.Documents
	}
	text := fmt.Sprintf("%d documents", documents)
	for _, name := range r.Reasons() {
		if n := r.Count(name); n > 0 {
			text += fmt.Sprintf(", %d %s", n, name)
		}
	}
	return text
}
