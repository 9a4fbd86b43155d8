package train

import (
	"math"
	"reflect"
	"runtime"
	"sync"
	"testing"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

// The evaluation of two sets is the same to the last bit at 1, 2, 3 and 5 ranks, where some ranks have nothing to do, and is that of
// Evaluate.
func TestEvaluationDoesNotDependOnRanks(t *testing.T) {
	for _, objective := range []string{"mlm", "nsp", "mlm+nsp", "reconstruction", "span_corruption"} {
		t.Run(objective, func(t *testing.T) { evaluationOnRanks(t, objective) })
	}
}

func evaluationOnRanks(t *testing.T, objective string) {
	modelDir := goldenModel
	if objective == "reconstruction" || objective == "span_corruption" {
		modelDir = textModel
	}
	c := settings(t, modelDir, "objective="+objective, "per_device_eval_batch_size=3", "eval_decode_samples=6")
	base := newJob(t, c, 8)
	some := someSamples
	if c.Pairs() {
		some = somePairs
	}
	base.Eval = []EvalSet{{Name: "a", Samples: some(t, 5, 11)}, {Name: "b", Samples: some(t, 6, 4)}}
	var want []evalResult
	for _, ranks := range []int{1, 2, 3, 5} {
		results := make([][]evalResult, ranks)
		var group sync.WaitGroup
		for n, local := range ddp.NewLocal(ranks, nil) {
			job := *base
			job.Rank, job.World = n, ranks
			r := oneRank(t, &job)
			r.sums = local
			group.Go(func() {
				runtime.LockOSThread() // as Run does: the number of threads belongs to the OS thread, and the last bits to it
				defer runtime.UnlockOSThread()
				torch.SetThreads(job.Threads)
				got, err := r.evaluate(0, 0)
				if err != nil {
					t.Error(err)
				}
				results[n] = got
			})
		}
		group.Wait()
		if want == nil {
			want = results[0]
		}
		for n, got := range results {
			if len(got) != 2 || !reflect.DeepEqual(got, want) {
				t.Errorf("rank %d of %d: %v, want %v", n, ranks, got, want)
			}
		}
	}
	if want[0].set != "a" || want[1].set != "b" || want[0].loss() == want[1].loss() || want[0].loss() <= 0 || want[0].loss() > math.Log(97)+5 {
		t.Errorf("the results are %v", want)
	}
	if c.SequenceToSequence() {
		if d := want[0].terms[0].decoded; d.samples != 5 && d.samples != 6 || d.tokens <= d.samples || d.rightTokens > d.tokens {
			t.Errorf("decoded %+v, want two micro-batches", d)
		}
	}
	alone := *base
	alone.Eval = base.Eval[:1]
	e, err := Evaluate(&alone, Watcher{})
	if err != nil || len(e) != len(want[0].terms) || e[0].Loss != want[0].terms[0].loss || e[len(e)-1].Accuracy != want[0].terms[len(e)-1].accuracy && c.Pairs() {
		t.Errorf("Evaluate: %v, %v; want %v", e, err, want[0].loss())
	}
}

func TestEvaluationOfALostPeer(t *testing.T) {
	c := settings(t, goldenModel)
	job := newJob(t, c, 8)
	job.World, job.Eval = 2, []EvalSet{{Samples: job.Train}}
	r := oneRank(t, job)
	groups := ddp.NewLocal(2, nil)
	r.sums = groups[0]
	groups[1].Abort()
	_, err := r.evaluate(0, 0)
	wantKind(t, err, ErrPeer)
}
