package config

import "testing"

func TestSteps(t *testing.T) {
	for _, c := range []struct {
		value       float64
		total, want int64
	}{{500, 3, 500}, {1, 10, 1}, {0.1, 100, 10}, {0.1, 101, 11}, {0, 100, 0}, {0.5, 1, 1}} {
		if got := Steps(c.value, c.total); got != c.want {
			t.Errorf("Steps(%v, %d) = %d, want %d", c.value, c.total, got, c.want)
		}
	}
}

func TestLanes(t *testing.T) {
	for _, c := range []struct {
		global, batch, accumulate, world int
		want                             int
		err                              string
	}{
		{0, 8, 1, 2, 2, ""},
		{0, 8, 4, 3, 12, ""},
		{32, 8, 1, 1, 4, ""},
		{32, 8, 1, 3, 4, ""},
		{32, 8, 1, 4, 4, ""},
		{32, 8, 1, 5, 0, "global_batch_size: 32 is 4 micro-batches of 8, which 5 ranks cannot share; use at most 4 ranks, " +
			"a smaller per_device_train_batch_size or a larger global_batch_size"},
		{0, 8, 1, 0, 0, "the number of ranks must be at least 1, got 0 to 0"},
	} {
		config := Config{GlobalBatchSize: c.global, PerDeviceTrainBatchSize: c.batch, GradientAccumulationSteps: c.accumulate}
		got, err := config.Lanes(c.world)
		if got != c.want || c.err == "" && err != nil {
			t.Errorf("%+v: %d lanes, %v", c, got, err)
		}
		if c.err != "" {
			expect(t, "lanes", err, c.err)
		}
	}
	elastic := Config{GlobalBatchSize: 32, PerDeviceTrainBatchSize: 8, GradientAccumulationSteps: 3}
	if got, err := elastic.ElasticLanes(2, 6); got != 4 || err != nil {
		t.Errorf("%d lanes (%v), want 4 for 2 to 6 ranks, of which 2 may stand by", got, err)
	}
	_, err := elastic.ElasticLanes(5, 6)
	expect(t, "lanes", err, "global_batch_size: 32 is 4 micro-batches of 8, which 5 ranks cannot share; use at most 4 ranks, "+
		"a smaller per_device_train_batch_size or a larger global_batch_size")
	elastic.GlobalBatchSize = 0
	if got, err := elastic.ElasticLanes(2, 6); got != 18 || err != nil {
		t.Errorf("%d lanes (%v), want 3 for each of the most ranks", got, err)
	}
	tokens := Config{PerDeviceTrainTokens: 4096, GlobalBatchTokens: 16384, GradientAccumulationSteps: 1}
	if got, err := tokens.Lanes(3); got != 4 || err != nil {
		t.Errorf("%d lanes (%v), want 4", got, err)
	}
	_, err = tokens.Lanes(5)
	expect(t, "lanes", err, "global_batch_tokens: 16384 is 4 micro-batches of 4096, which 5 ranks cannot share; use at most 4 ranks, "+
		"a smaller per_device_train_tokens or a larger global_batch_tokens")
}
