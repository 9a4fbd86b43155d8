package train

import (
	"context"
	"errors"
	"slices"
	"testing"
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
			err := Inspect(context.Background(), job, Inspection{Lanes: 4, Epoch: epoch, Samples: 1000}, func(s Inspected) error {
				samples[s.Number] = true
				got = append(got, s.Batch.IDs...)
				return nil
			})
			if err != nil || len(samples) != 33 || !slices.Equal(got, want) {
				t.Errorf("%s, epoch %d: %d samples, %v; the ids are the feed's: %v", objective, epoch, len(samples), err, slices.Equal(got, want))
			}
		}
		first3 := Inspection{Lanes: 4, Samples: 3}
		shown := 0
		enough := errors.New("enough")
		if err := Inspect(context.Background(), job, first3, func(Inspected) error { shown++; return nil }); err != nil || shown != 3 {
			t.Errorf("%d samples, %v; want 3", shown, err)
		}
		if err := Inspect(context.Background(), job, first3, func(Inspected) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("the error is %v", err)
		}
	}
}

// A sample is shown the same by its number and with its step, of micro-batches by samples and by tokens, and its place is right.
func TestInspectFindsSamples(t *testing.T) {
	ctx := context.Background()
	c := settings(t, goldenModel, "objective=mlm+nsp", "global_batch_size=8", "max_steps=12", "dataloader_drop_last=true")
	for name, job := range map[string]*Job{"samples": newJob(t, c, 33), "tokens": tokenJob(t, "max_steps=-1", "num_train_epochs=2")} {
		lanes := map[string]int{"samples": 4, "tokens": 2}[name]
		type seen struct {
			step int64
			lane int
			ids  []int64
		}
		for epoch := range int64(2) {
			whole := map[int64]seen{}
			var steps []int64
			if err := Inspect(ctx, job, Inspection{Lanes: lanes, Epoch: epoch, Samples: 1000}, func(s Inspected) error {
				whole[s.Number] = seen{s.Step, s.Lane, slices.Clone(s.Batch.IDs)}
				steps = append(steps, s.Step)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			same := func(s Inspected) error {
				if want := whole[s.Number]; s.Epoch != epoch || s.Step != want.step || s.Lane != want.lane || want.step > 0 && !slices.Equal(s.Batch.IDs, want.ids) {
					t.Errorf("%s, epoch %d: sample %d is shown in step %d, lane %d, want %d, %d", name, epoch, s.Number, s.Step, s.Lane, want.step, want.lane)
				}
				return nil
			}
			for number := range job.Train.Len() {
				if err := Inspect(ctx, job, Inspection{Lanes: lanes, Epoch: epoch, Numbers: []int64{number}}, same); err != nil {
					t.Fatal(err)
				}
			}
			count := 0
			for _, step := range slices.Compact(steps) {
				for lane := range lanes {
					err := Inspect(ctx, job, Inspection{Lanes: lanes, Step: step, Lane: lane}, func(s Inspected) error { count++; return same(s) })
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			if count != len(whole) || len(whole) == 0 {
				t.Errorf("%s, epoch %d: the steps show %d samples of %d", name, epoch, count, len(whole))
			}
		}
		none := func(Inspected) error { t.Error("something is shown"); return nil }
		wantKind(t, Inspect(ctx, job, Inspection{Lanes: lanes, Step: 1000, Lane: -1}, none), ErrInput, "no step 1000")
		wantKind(t, Inspect(ctx, job, Inspection{Lanes: lanes, Step: 1, Lane: 4}, none), ErrInput, "no lane 4")
		wantKind(t, Inspect(ctx, job, Inspection{Lanes: lanes, Numbers: []int64{1000}}, none), ErrInput, "no sample 1000")
	}
}
