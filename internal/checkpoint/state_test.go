package checkpoint

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestEnvironmentDifferences(t *testing.T) {
	e := Environment{Ranks: 2, Threads: 1, Device: "cpu", Libtorch: "2.11.0"}
	if d := e.Differences(e); d != nil {
		t.Errorf("%v", d)
	}
	want := []string{"ranks: 2 then, 4 now", "threads per rank: 1 then, 8 now", "device: cpu then, cuda now",
		"libtorch: 2.11.0 then, 2.12.0 now"}
	if d := e.Differences(Environment{4, 8, "cuda", "2.12.0"}); !slices.Equal(d, want) {
		t.Errorf("%q", d)
	}
}

// The digest's place in the file depends on how encoding/json lays it out.
func TestStateBeginsWithItsDigest(t *testing.T) {
	data, err := State{Step: 7}.encode()
	if err != nil {
		t.Fatal(err)
	}
	s, err := decodeState(data)
	if err != nil || s.Step != 7 || len(s.SHA256) != 64 || s.SHA256 == noDigest {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestTrainerStateWithoutNumbers(t *testing.T) {
	data, err := TrainerState{LogHistory: []map[string]any{
		{"loss": math.NaN(), "grad_norm": math.Inf(1), "step": 3}, {"loss": 0.5}}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	var back TrainerState
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	first := back.LogHistory[0]
	if value, ok := first["loss"]; !ok || value != nil || first["grad_norm"] != nil || first["step"] != 3.0 {
		t.Errorf("%v", first)
	}
	if !back.IsWorldProcessZero || !strings.Contains(string(data), `"stateful_callbacks": {}`) {
		t.Errorf("%s", data)
	}
}
