package launch

import "testing"

func TestBudget(t *testing.T) {
	type failure struct {
		failure             Failure
		resumed, checkpoint int64
		restart             bool
		code                int
	}
	crash := Failure{ExitCode: 1}
	for name, c := range map[string]struct {
		maxRestarts int
		failures    []failure
	}{
		"restarts are off": {0, []failure{{crash, 0, 0, false, ExitFailed}}},
		"used up":          {1, []failure{{crash, 0, 0, true, 0}, {crash, 0, 0, false, ExitFailed}}},
		"three without progress": {9, []failure{
			{crash, 0, 0, true, 0}, {crash, 0, 0, true, 0}, {crash, 0, 0, false, ExitNoProgress}}},
		"used up, with progress": {2, []failure{
			{crash, 0, 10, true, 0}, {crash, 10, 20, true, 0}, {crash, 20, 30, false, ExitFailed}}},
		"progress counts anew": {9, []failure{
			{crash, 0, 0, true, 0}, {crash, 0, 0, true, 0}, {crash, 0, 10, true, 0}, {crash, 10, 10, true, 0}, {crash, 10, 10, false, ExitNoProgress}}},
		"the checkpoint resumed from is none": {9, []failure{
			{crash, 50, 50, true, 0}, {crash, 50, 50, true, 0}, {crash, 50, 50, false, ExitNoProgress}}},
		"the same checkpoint again is none": {9, []failure{
			{crash, 0, 50, true, 0}, {crash, 0, 50, true, 0}, {crash, 0, 50, false, ExitNoProgress}}},
		"configuration": {9, []failure{{Failure{ExitCode: ExitConfig}, 0, 10, false, ExitConfig}}},
		"permanent":     {9, []failure{{Failure{ExitCode: 1, Permanent: true}, 0, 10, false, ExitFailed}}},
	} {
		b := budget{maxRestarts: c.maxRestarts}
		for i, f := range c.failures {
			v := b.after(&f.failure, f.resumed, f.checkpoint)
			if v.restart != f.restart || v.code != f.code || v.restart == (v.reason != "") {
				t.Errorf("%s: failure %d leads to %+v", name, i+1, v)
			}
		}
	}
}
