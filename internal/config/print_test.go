package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestPrintIsReadAgain(t *testing.T) {
	for _, text := range []string{
		minimal,
		minimal + "eval_data: [a, 'b # c']\nseed: 9007199254740993\nshards_dir: \"x: \\u2028'\\\"y\"\n",
		minimal + "eval_data: {b: x, a: [y, 'z, w']}\nlearning_rate: 3.0000000000000004e-5\nadam_epsilon: 1e-30\n" +
			"lr_scheduler_type: cosine\nlr_scheduler_kwargs: {num_cycles: 2}\nsave_steps: 1000000\n",
	} {
		loaded := mustLoad(t, text, nil, nil)
		var printed strings.Builder
		if err := loaded.Print(&printed); err != nil {
			t.Fatal(err)
		}
		again := mustLoad(t, printed.String(), nil, nil)
		if !reflect.DeepEqual(loaded.Config, again.Config) {
			t.Errorf("got  %+v\nwant %+v\nfrom\n%s", again.Config, loaded.Config, &printed)
		}
		if want := "seed: "; !strings.Contains(printed.String(), want) || !strings.Contains(printed.String(), "# train.yaml:1\n") {
			t.Errorf("no %q or no source in\n%s", want, &printed)
		}
	}
}
