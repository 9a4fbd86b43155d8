package train

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ddprun/ddprun/objectives"
)

// What Inspect shows is what the feed gives, in both epochs and whatever the objective.
func TestInspectShowsWhatTheFeedGives(t *testing.T) {
	for _, objective := range []string{"mlm", "mlm+nsp"} {
		steps := feeds(t, objective, 1, 0, 12)
		c := settings(t, goldenModel, "objective="+objective, "global_batch_size=8", "max_steps=12")
		job := newJob(t, c, 33)
		for epoch := range int64(2) {
			var want, got []int64
			for _, step := range steps[5*epoch : 5*(epoch+1)] { // 33 samples in 4 lanes of 2: 5 steps an epoch
				for _, ids := range step.ids {
					want = append(want, ids...)
				}
			}
			samples := map[int64]bool{}
			err := Inspect(context.Background(), job, 4, epoch, 1000, func(index int64, _ string, b *objectives.Batch) error {
				samples[index] = true
				got = append(got, b.IDs...)
				return nil
			})
			if err != nil || len(samples) != 33 || !slices.Equal(got, want) {
				t.Errorf("%s, epoch %d: %d samples, %v; the ids are the feed's: %v", objective, epoch, len(samples), err, slices.Equal(got, want))
			}
		}
		shown := 0
		enough := errors.New("enough")
		if err := Inspect(context.Background(), job, 4, 0, 3, func(int64, string, *objectives.Batch) error { shown++; return nil }); err != nil || shown != 3 {
			t.Errorf("%d samples, %v; want 3", shown, err)
		}
		if err := Inspect(context.Background(), job, 4, 0, 3, func(int64, string, *objectives.Batch) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("the error is %v", err)
		}
	}
}
