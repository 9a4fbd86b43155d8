package hf

import (
	"encoding/binary"
	"math"
	"testing"
)

// Every half, against its value by definition.
func TestHalfToFloat32(t *testing.T) {
	for h := range 1 << 16 {
		got := halfToFloat32(uint16(h))
		exponent, fraction := h>>10&0x1f, h&0x3ff
		var want float64
		switch {
		case exponent == 0x1f && fraction == 0:
			want = math.Inf(1)
		case exponent == 0x1f:
			want = math.NaN()
		case exponent == 0:
			want = math.Ldexp(float64(fraction), -24)
		default:
			want = math.Ldexp(float64(1024+fraction), exponent-25)
		}
		if h>>15 == 1 {
			want = -want
		}
		if math.IsNaN(want) != math.IsNaN(float64(got)) || !math.IsNaN(want) && float64(got) != want ||
			math.Signbit(float64(got)) != (h>>15 == 1) {
			t.Fatalf("half %#04x is %g, want %g", h, got, want)
		}
	}
}

func TestAsFloat32(t *testing.T) {
	le := binary.LittleEndian
	for _, c := range []struct {
		dtype DType
		data  []byte
		want  float32
	}{
		{F32, le.AppendUint32(nil, math.Float32bits(-1.5)), -1.5},
		{F16, []byte{0x00, 0xbe}, -1.5},
		{BF16, []byte{0xc0, 0xbf}, -1.5},
		{BF16, []byte{0x01, 0x00}, math.Float32frombits(1 << 16)}, // subnormal
		{BF16, []byte{0x80, 0x7f}, float32(math.Inf(1))},
		{F64, le.AppendUint64(nil, math.Float64bits(-1.5)), -1.5},
	} {
		got := make([]float32, 1)
		tensor := Tensor{Name: "x", DType: c.dtype, Data: c.data}
		if err := tensor.AsFloat32(got); err != nil || got[0] != c.want {
			t.Errorf("%s % x is %g (%v), want %g", c.dtype, c.data, got[0], err, c.want)
		}
	}
	nan := make([]float32, 1)
	if err := (Tensor{DType: BF16, Data: []byte{0xc0, 0x7f}}).AsFloat32(nan); err != nil || !math.IsNaN(float64(nan[0])) {
		t.Errorf("bf16 nan is %g (%v)", nan[0], err)
	}
	wantError(t, Tensor{Name: "ids", DType: I64, Shape: []int64{1}, Data: make([]byte, 8)}.AsFloat32(nan), "ids", "I64")
	wantError(t, Tensor{Name: "w", DType: F32, Shape: []int64{2}, Data: make([]byte, 8)}.AsFloat32(nan), "w", "does not fit")
}

// Real is what AsFloat32 converts.
func TestReal(t *testing.T) {
	for _, d := range append([]DType{"F4", ""}, I64, I32, U8, BOOL, "C64", F16, BF16, F32, F64) {
		err := (Tensor{DType: d, Shape: []int64{1}, Data: make([]byte, d.Size())}).AsFloat32(make([]float32, 1))
		if d.Real() != (err == nil) {
			t.Errorf("%q: Real is %v, AsFloat32 says %v", d, d.Real(), err)
		}
	}
}
