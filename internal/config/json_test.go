package config

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestJSONRoundTrip(t *testing.T) {
	c := mustLoad(t, minimal+"seed: 9007199254740993\neval_data: {A.b: [x, y], c: z}\nlearning_rate: 3.0000000000000004e-5\n", nil, nil).Config
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, back) || c.Digest() != back.Digest() {
		t.Errorf("got  %+v\nwant %+v", back, c)
	}
	resolved, err := json.Marshal(c.Resolved())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Decode(resolved); err != nil || !reflect.DeepEqual(c, again) {
		t.Errorf("Resolved does not lead back: %v", err)
	}
	back.Seed++
	if back.Digest() == c.Digest() {
		t.Error("another seed has the same digest")
	}
}

func TestDecodeRefuses(t *testing.T) {
	text, err := json.Marshal(mustLoad(t, minimal, nil, nil).Config)
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	for _, c := range []struct{ text, want string }{
		{"", "unexpected end"},
		{"[]", "cannot unmarshal array"},
		{good + good, "invalid character"},
		{strings.Replace(good, `"seed":42,`, "", 1), "seed: is missing"},
		{strings.Replace(good, `"seed":42`, `"Seed":42`, 1), "seed: is missing"},
		{strings.Replace(good, `"seed":42`, `"seed":42,"extra":1`, 1), `unknown field "extra"`},
		{strings.Replace(good, `"seed":42`, `"seed":42,"SEED":1`, 1), "another spelling"},
		{strings.Replace(good, `"seed":42`, `"seed":"42"`, 1), "cannot unmarshal string"},
		{strings.Replace(good, `"seed":42`, `"seed":-42`, 1), "seed: must be at least 0"},
	} {
		if _, err := Decode([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: got %v, want ... %s ...", c.text, err, c.want)
		}
	}
}

func TestDifferences(t *testing.T) {
	old := mustLoad(t, minimal, nil, nil).Config
	earlier, err := json.Marshal(old.Resolved())
	if err != nil {
		t.Fatal(err)
	}
	if list, err := old.Differences(earlier); err != nil || len(list) != 0 {
		t.Errorf("the same configuration differs: %v, %v", list, err)
	}
	changed := *old
	changed.LoggingSteps, changed.LearningRate = 5, 1
	list, err := changed.Differences([]byte(strings.Replace(string(earlier), `"seed":42`, `"sed":42`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := []Difference{
		{Key: "learning_rate", Old: "0.00005", New: "1"},
		{Key: "logging_steps", Old: "10", New: "5", Allowed: true},
		{Key: "sed", Old: "42"},
	}
	if !reflect.DeepEqual(list, want) {
		t.Errorf("got  %+v\nwant %+v", list, want)
	}
	// A checkpoint of a version that lacked a key, or a part of one: it did what the key's default does.
	older := strings.Replace(string(earlier), `"num_cycles":0.5,`, "", 1)
	if list, err := old.Differences([]byte(older)); err != nil || len(list) != 0 || older == string(earlier) {
		t.Errorf("a missing key counts as changed: %v, %v", list, err)
	}
	if _, err := old.Differences([]byte("{")); err == nil {
		t.Error("broken JSON was taken")
	}
}

// TestValidateFindsNaN: only JSON-borne and hand-made configurations get here without Load.
func TestValidateFindsNaN(t *testing.T) {
	c := mustLoad(t, minimal, nil, nil).Config
	value := reflect.ValueOf(c).Elem()
	for _, f := range fields {
		if field := value.Field(f.index); field.Kind() == reflect.Float64 {
			was := field.Float()
			for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
				field.SetFloat(bad)
				if err := c.Validate(); err == nil || !strings.Contains(err.Error(), f.key) {
					t.Errorf("%s: %v was taken: %v", f.key, bad, err)
				}
			}
			field.SetFloat(was)
		}
	}
}
