package hf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// DType is an element type under its name in a safetensors header.
type DType string

// The element types that AsFloat32 converts or that models keep as they are.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	F64  DType = "F64"
	I64  DType = "I64"
	I32  DType = "I32"
	U8   DType = "U8"
	BOOL DType = "BOOL"
)

// dtypes lists the types of whole bytes in the order in which safetensors lays
// tensors out, last first, with their size in bytes. (F4, F6 and E8M0 scales
// occur in quantized models alone.)
var dtypes = []struct {
	name DType
	size int64
}{
	{BOOL, 1}, {U8, 1}, {"I8", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {F16, 2}, {BF16, 2},
	{I32, 4}, {"U32", 4}, {F32, 4}, {"C64", 8}, {F64, 8}, {I64, 8}, {"U64", 8},
}

// Size is the bytes of one element; 0: a type that is not known.
func (d DType) Size() int64 {
	if at := d.order(); at >= 0 {
		return dtypes[at].size
	}
	return 0
}

// Real tells whether AsFloat32 converts elements of the type.
func (d DType) Real() bool { return d == F32 || d == F16 || d == BF16 || d == F64 }

// order is the place of d in dtypes, -1 if it is not there.
func (d DType) order() int {
	for i, known := range dtypes {
		if known.name == d {
			return i
		}
	}
	return -1
}

// Tensor is one named array, row-major and little-endian. Of an open Weights, Data
// lies in the mapped file: read-only, and gone after Close.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64 // empty: a scalar
	Data  []byte
}

// Elements is the product of the shape: 1 for a scalar.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// AsFloat32 converts the elements to float32 into dst, which must have exactly as
// many. F64 is rounded to nearest even; integers are not converted.
func (t Tensor) AsFloat32(dst []float32) error {
	size := t.DType.Size()
	if size == 0 || int64(len(dst)) != t.Elements() || int64(len(t.Data)) != size*int64(len(dst)) {
		return fmt.Errorf("tensor %s: %s %v in %d bytes does not fit %d elements of float32",
			t.Name, t.DType, t.Shape, len(t.Data), len(dst))
	}
	switch t.DType {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = halfToFloat32(binary.LittleEndian.Uint16(t.Data[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.Data[2*i:])) << 16)
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:])))
		}
	default:
		return fmt.Errorf("tensor %s: is %s; weights must be F32, F16, BF16 or F64", t.Name, t.DType)
	}
	return nil
}

// halfToFloat32 converts IEEE 754 binary16, exactly: 1 sign bit, 5 of exponent with
// bias 15, 10 of fraction.
func halfToFloat32(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exponent := uint32(h >> 10 & 0x1f)
	fraction := uint32(h & 0x3ff)
	switch exponent {
	case 0: // zero and subnormals: fraction * 2^-24, exact in float32
		x := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(x) | sign)
	case 0x1f: // infinity and nan, whose payload is kept
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	default:
		return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
	}
}
