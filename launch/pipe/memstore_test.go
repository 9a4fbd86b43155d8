package pipe

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestMemStoreGetWaitsForSet(t *testing.T) {
	s := NewMemStore()
	got := make(chan string)
	go func() {
		value, err := s.Get(context.Background(), "k")
		if err != nil {
			t.Error(err)
		}
		got <- string(value)
	}()
	select {
	case value := <-got:
		t.Fatalf("Get returned %q before Set", value)
	case <-time.After(20 * time.Millisecond):
	}
	s.Set(context.Background(), "k", []byte("v"))
	if value := <-got; value != "v" {
		t.Fatalf("got %q", value)
	}
}

func TestMemStoreWaitNeedsAllKeys(t *testing.T) {
	s := NewMemStore()
	ctx := context.Background()
	s.Set(ctx, "a", nil)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := s.Wait(short, []string{"a", "b"}); !errors.Is(err, ErrTimeout) {
		t.Fatalf("Wait with a missing key: %v", err)
	}
	if len(s.waiters) != 0 {
		t.Fatalf("a wait that timed out left its waiter behind: %v", s.waiters)
	}
	done := make(chan error)
	go func() { done <- s.Wait(ctx, []string{"a", "b", "c"}) }()
	s.Set(ctx, "c", nil)
	s.Set(ctx, "b", nil)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestMemStoreTimeoutOfZeroLooksOnce(t *testing.T) {
	s := NewMemStore()
	over, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	if _, err := s.Get(over, "k"); !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	s.Set(over, "k", []byte("v"))
	if value, err := s.Get(over, "k"); err != nil || string(value) != "v" {
		t.Fatal(value, err)
	}
}

func TestMemStoreAddIsDecimalText(t *testing.T) {
	s, ctx := NewMemStore(), context.Background()
	s.Set(ctx, "n", []byte("40"))
	if n, err := s.Add(ctx, "n", 2); n != 42 || err != nil {
		t.Fatal(n, err)
	}
	if value, _ := s.Get(ctx, "n"); string(value) != "42" {
		t.Fatalf("%q", value)
	}
	s.Set(ctx, "text", []byte("x"))
	if _, err := s.Add(ctx, "text", 1); err == nil {
		t.Fatal("added to text")
	}
}

func TestMemStoreCopiesValues(t *testing.T) {
	s, ctx := NewMemStore(), context.Background()
	value := []byte("abc")
	s.Set(ctx, "k", value)
	value[0] = 'X'
	got, _ := s.Get(ctx, "k")
	got[1] = 'Y'
	if again, _ := s.Get(ctx, "k"); string(again) != "abc" {
		t.Fatalf("%q", again)
	}
}

func TestMemStoreCloseEndsWaits(t *testing.T) {
	s := NewMemStore()
	done := make(chan error)
	go func() { _, err := s.Get(context.Background(), "k"); done <- err }()
	time.Sleep(5 * time.Millisecond)
	s.Close()
	s.Close()
	if err := <-done; !errors.Is(err, ErrStoreClosed) {
		t.Fatal(err)
	}
	if err := s.Set(context.Background(), "k", nil); !errors.Is(err, ErrStoreClosed) {
		t.Fatal(err)
	}
}

func TestPrefixKeepsGenerationsApart(t *testing.T) {
	s, ctx := NewMemStore(), context.Background()
	first, second := Prefix(s, "generation-1/"), Prefix(s, "generation-2/")
	first.Set(ctx, "k", []byte("1"))
	if set, _ := second.Check(ctx, []string{"k"}); set {
		t.Fatal("a generation reads another's key")
	}
	second.Set(ctx, "k", []byte("2"))
	s.Drop("generation-1/")
	if set, _ := first.Check(ctx, []string{"k"}); set {
		t.Fatal("a dropped key is still there")
	}
	if value, err := second.Get(ctx, "k"); err != nil || string(value) != "2" {
		t.Fatal(value, err)
	}
	if removed, _ := second.Delete(ctx, "k"); !removed {
		t.Fatal("Delete found nothing")
	}
	if removed, _ := second.Delete(ctx, "k"); removed {
		t.Fatal("Delete found a deleted key")
	}
}
