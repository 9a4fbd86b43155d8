package main

import "testing"

func TestByteSize(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "5000": 5000, "7B": 7, "100MB": 100e6, "1GiB": 1 << 30, "3 kB": 3000, "2KiB": 2048, "1MiB": 1 << 20} {
		var b byteSize
		if err := b.Set(in); err != nil || int64(b) != want {
			t.Errorf("%q: %d, %v", in, b, err)
		}
		var again byteSize
		if err := again.Set(b.String()); err != nil || again != b {
			t.Errorf("%q is shown as %q", in, b.String())
		}
	}
	for _, in := range []string{"", "MB", "-1", "1.5GB", "many", "1TB", "9999999999GB", "0x10"} {
		var b byteSize
		if err := b.Set(in); err == nil {
			t.Errorf("%q: %d", in, b)
		}
	}
}
