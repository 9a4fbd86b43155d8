package hf

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"testing"
)

// bertRules is what internal/model will say of BERT.
var bertRules = MatchRules{
	BasePrefix: "bert",
	Tied: map[string]string{
		"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
		"cls.predictions.decoder.bias":   "cls.predictions.bias",
	},
	Ignored: []string{"position_ids"},
}

// The encoder alone has no head, so no tied names.
var bertEncoderRules = MatchRules{BasePrefix: "bert", Ignored: []string{"position_ids"}}

// What from_pretrained reports as missing and unexpected; tools/golden/make_hf_fixtures.py.
func TestMatchEqualsTransformers(t *testing.T) {
	data, err := os.ReadFile("testdata/match.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name                              string
		Wanted, Have, Missing, Unexpected []string
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		rules := bertRules
		if !slices.Contains(c.Wanted, "bert.embeddings.word_embeddings.weight") {
			rules = bertEncoderRules
		}
		m := Match(c.Wanted, c.Have, rules)
		// transformers counts a tied name beside the one it shares with; a model of
		// ours has just the one.
		var missing []string
		for _, name := range c.Missing {
			if slices.Contains(c.Wanted, name) {
				missing = append(missing, name)
			}
		}
		slices.Sort(m.Missing)
		if !slices.Equal(m.Missing, missing) {
			t.Errorf("%s: missing %v, transformers says %v", c.Name, m.Missing, missing)
		}
		if !slices.Equal(m.Unused, c.Unexpected) {
			t.Errorf("%s: unused %v, transformers says %v", c.Name, m.Unused, c.Unexpected)
		}
		if len(m.Found)+len(m.Missing) != len(c.Wanted) {
			t.Errorf("%s: %d found and %d missing of %d", c.Name, len(m.Found), len(m.Missing), len(c.Wanted))
		}
	}
}

func TestMatch(t *testing.T) {
	embeddings, decoder := "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
	for _, c := range []struct {
		name         string
		wanted, have []string
		want         Matching
	}{
		{"prefix added", []string{"bert.a.w"}, []string{"a.w"}, Matching{Found: map[string]string{"bert.a.w": "a.w"}}},
		{"prefix taken away", []string{"a.w"}, []string{"bert.a.w"}, Matching{Found: map[string]string{"a.w": "bert.a.w"}}},
		{"old norm", []string{"bert.x.LayerNorm.weight"}, []string{"x.LayerNorm.gamma"},
			Matching{Found: map[string]string{"bert.x.LayerNorm.weight": "x.LayerNorm.gamma"}}},
		{"exact name wins", []string{"bert.a"}, []string{"a", "bert.a"},
			Matching{Found: map[string]string{"bert.a": "bert.a"}, Unused: []string{"a"}}},
		{"decoder stands in for the embeddings", []string{embeddings}, []string{decoder},
			Matching{Found: map[string]string{embeddings: decoder}}},
		{"both tied names are there", []string{embeddings}, []string{decoder, embeddings},
			Matching{Found: map[string]string{embeddings: embeddings}}},
		{"tied name wanted", []string{embeddings, decoder}, []string{embeddings},
			Matching{Found: map[string]string{embeddings: embeddings, decoder: embeddings}}},
		{"ignored, missing and unused", []string{"b", "a"}, []string{"bert.embeddings.position_ids", "my_position_ids"},
			Matching{Found: map[string]string{}, Missing: []string{"b", "a"}, Unused: []string{"my_position_ids"}}},
	} {
		if got := Match(c.wanted, c.have, bertRules); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
