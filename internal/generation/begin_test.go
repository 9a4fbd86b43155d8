package generation

import (
	"reflect"
	"testing"
)

func TestLastRun(t *testing.T) {
	dir := t.TempDir()
	if run, err := LastRun(dir); err != nil || !reflect.DeepEqual(run, Run{}) {
		t.Errorf("%+v (%v)", run, err)
	}
	for n, run := range map[int]Run{3: {ID: "c", Agents: []string{"0-a", "1-b"}}, 10: {ID: "d"}, 9: {ID: "e"}} {
		if err := Begin(dir, n, int64(n), run); err != nil {
			t.Fatal(err)
		}
	}
	if run, err := LastRun(dir); err != nil || run.ID != "d" {
		t.Errorf("%+v (%v)", run, err)
	}
	noTemporary(t, dir)
}

func TestGoesOn(t *testing.T) {
	for _, c := range []struct {
		before, now Run
		want        bool
	}{
		{Run{}, Run{}, false},
		{Run{ID: "r"}, Run{ID: "r"}, true},
		{Run{ID: "r"}, Run{ID: "s"}, false},
		{Run{ID: "r", Agents: []string{"a", "b"}}, Run{ID: "r", Agents: []string{"c", "b"}}, true},
		{Run{ID: "r", Agents: []string{"a", "b"}}, Run{ID: "r", Agents: []string{"c"}}, false}, // everything was started again
		{Run{ID: "r", Agents: []string{"a"}}, Run{ID: "r"}, true},                              // the check, before there are agents
	} {
		if got := c.now.GoesOn(c.before); got != c.want {
			t.Errorf("%+v after %+v: %v", c.now, c.before, got)
		}
	}
}
