package mesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"
)

// strangers starts two agents of which one is to join the other, and waits until both have said something with these words.
func strangers(t *testing.T, first, second Config, words []string, otherWords []string) {
	t.Helper()
	noLeaks(t)
	a := start(t, first, nil)
	second.Join = []string{a.Addr()}
	b := start(t, second, nil)
	a.logs(append(words, `"level":"warn"`)...)
	b.logs(append(otherWords, `"level":"warn"`)...)
	time.Sleep(200 * time.Millisecond) // neither is ever up
	if a.told() != "" || b.told() != "" {
		t.Fatalf("%s / %s", a.told(), b.told())
	}
}

func TestOtherKeyIsRefusedAndBothSaySo(t *testing.T) {
	a, b := config("0-a"), config("1-b")
	b.Key = []byte("another key of the same job")
	strangers(t, a, b, []string{"key", "127.0.0.1"}, []string{"key", "127.0.0.1"})
}

func TestNoKeyIsRefusedAndBothSaySo(t *testing.T) {
	a, b := config("0-a"), config("1-b")
	b.Key = nil
	strangers(t, a, b, []string{"another key"}, []string{"another one"})
}

func TestKeyIsRefusedByNobodyWithoutOne(t *testing.T) {
	a, b := config("0-a"), config("1-b")
	a.Key, b.Key = nil, nil
	first := start(t, a, nil)
	first.logs("there is no key")
	b.Join = []string{first.Addr()}
	start(t, b, nil).sees("0-a")
}

func TestOtherRunIsRefusedAndBothSaySo(t *testing.T) {
	a, b := config("0-a"), config("1-b")
	b.RunID = "other"
	strangers(t, a, b, []string{"another run", "other"}, []string{"another run", "other"})
}

func TestNotAdmittedIsRefusedAndBothSaySo(t *testing.T) {
	admit := func(own string) func(json.RawMessage) error {
		return func(h json.RawMessage) error {
			if string(h) != own {
				return fmt.Errorf("configuration %s, not %s", h, own)
			}
			return nil
		}
	}
	a, b := config("0-a"), config("1-b")
	a.Hello, b.Hello = json.RawMessage(`1`), json.RawMessage(`2`)
	a.Admit, b.Admit = admit("1"), admit("2")
	t.Run("by the one that is dialled", func(t *testing.T) {
		strangers(t, a, b, []string{"configuration 2, not 1"}, []string{"configuration 2, not 1", "refuses this one"})
	})
	b.Hello = json.RawMessage(`1`)
	b.Admit = func(json.RawMessage) error { return errors.New("not today") }
	t.Run("by the one that dials", func(t *testing.T) {
		strangers(t, a, b, []string{"not today", "refuses this one"}, []string{"not today"})
	})
}
