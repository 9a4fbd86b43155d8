package hf

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// maxHeaderBytes is the longest header that safetensors itself takes.
const maxHeaderBytes = 100_000_000

// maxEntryBytes bounds a tensor's entry in the header, which takes about 100 bytes;
// errors repeat it, and shapes of thousands of dimensions do not occur.
const maxEntryBytes = 4096

// metadataKey is the header's one entry that is not a tensor.
const metadataKey = "__metadata__"

// extent is a tensor and where its data lie. Offsets count from the header's end,
// the second one is exclusive.
type extent struct {
	Tensor
	first, end uint64
}

// parseSafetensors reads the tensors of a whole safetensors file; their data are
// slices of file. It holds the file to what the format promises: the tensors tile
// the data without overlap, hole or rest, each as large as its type and shape.
// https://huggingface.co/docs/safetensors/index#format
func parseSafetensors(file []byte) ([]Tensor, map[string]string, error) {
	header, body, err := splitSafetensors(file)
	if err != nil {
		return nil, nil, err
	}
	fields, err := parseObject(header)
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	var metadata map[string]string
	extents := make([]extent, 0, len(fields.keys))
	for _, name := range fields.keys {
		if name == metadataKey {
			if err := json.Unmarshal(fields.values[name], &metadata); err != nil {
				return nil, nil, fmt.Errorf("header: %s must map strings to strings: %w", metadataKey, err)
			}
			continue
		}
		e, err := headerTensor(name, fields.values[name], body)
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %s: %w", name, err)
		}
		extents = append(extents, e)
	}
	if err := checkTiling(extents, uint64(len(body))); err != nil {
		return nil, nil, err
	}
	tensors := make([]Tensor, len(extents))
	for i, e := range extents {
		tensors[i] = e.Tensor
	}
	return tensors, metadata, nil
}

// splitSafetensors cuts a file into its JSON header and the data after it.
func splitSafetensors(file []byte) (header, body []byte, err error) {
	if len(file) < 8 {
		return nil, nil, fmt.Errorf("is %d bytes long, too short for safetensors", len(file))
	}
	length := binary.LittleEndian.Uint64(file)
	rest := file[8:]
	switch {
	case length > maxHeaderBytes:
		return nil, nil, fmt.Errorf("says that its header has %d bytes, more than the %d that safetensors allows: "+
			"not a safetensors file", length, maxHeaderBytes)
	case length > uint64(len(rest)):
		return nil, nil, fmt.Errorf("says that its header has %d bytes, but only %d follow: the file is cut short",
			length, len(rest))
	case length == 0 || rest[0] != '{':
		return nil, nil, errors.New("header does not begin with '{': not a safetensors file")
	}
	return rest[:length], rest[length:], nil
}

// headerTensor checks one entry of the header and cuts its data out of body.
func headerTensor(name string, raw json.RawMessage, body []byte) (extent, error) {
	e := extent{Tensor: Tensor{Name: name}}
	offsets, err := parseEntry(raw, &e.Tensor)
	if err != nil {
		return extent{}, fmt.Errorf("entry in the header: %w", err)
	}
	want, err := tensorBytes(e.DType, e.Shape)
	if err != nil {
		return extent{}, err
	}
	e.first, e.end = offsets[0], offsets[1]
	switch {
	case e.first > e.end:
		return extent{}, fmt.Errorf("data_offsets %v run backwards", offsets)
	case e.end > uint64(len(body)):
		return extent{}, fmt.Errorf("data_offsets %v lie beyond the %d bytes of data: the file is cut short",
			offsets, len(body))
	case e.end-e.first != want:
		return extent{}, fmt.Errorf("%s %v takes %d bytes, but data_offsets %v span %d",
			e.DType, e.Shape, want, offsets, e.end-e.first)
	}
	e.Data = body[e.first:e.end:e.end]
	return e, nil
}

// parseEntry reads dtype and shape into t and returns the offsets. It demands just
// the three keys, once each, and a list of just two offsets; decoding into a struct
// would let pass what Python's reader refuses.
func parseEntry(raw json.RawMessage, t *Tensor) ([]uint64, error) {
	if len(raw) > maxEntryBytes {
		return nil, fmt.Errorf("is %d bytes long, more than %d", len(raw), maxEntryBytes)
	}
	fields, err := parseObject(raw)
	if err != nil {
		return nil, err
	}
	var offsets []uint64
	for _, field := range []struct {
		key   string
		value any
	}{{"dtype", &t.DType}, {"shape", &t.Shape}, {"data_offsets", &offsets}} {
		spelled, ok := fields.values[field.key]
		if !ok || string(spelled) == "null" {
			return nil, fmt.Errorf("has no %s", field.key)
		}
		if err := json.Unmarshal(spelled, field.value); err != nil {
			return nil, fmt.Errorf("%s is %.60s: %w", field.key, spelled, err)
		}
	}
	if len(fields.keys) != 3 || len(offsets) != 2 {
		return nil, fmt.Errorf("is not a dtype, a shape and two data_offsets: %.200s", raw)
	}
	return offsets, nil
}

// tensorBytes is the size of a tensor's data.
func tensorBytes(dtype DType, shape []int64) (uint64, error) {
	size := uint64(dtype.Size())
	if size == 0 {
		return 0, fmt.Errorf("dtype %q is not known; known are F32, F16, BF16, F64 and the integers", dtype)
	}
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		high, low := bits.Mul64(size, uint64(d))
		if high != 0 || low > math.MaxInt64 {
			return 0, fmt.Errorf("shape %v has more elements than fit in memory", shape)
		}
		size = low
	}
	return size, nil
}

// checkTiling demands that the tensors follow each other without overlap or hole
// and fill the data.
func checkTiling(extents []extent, bodyBytes uint64) error {
	sorted := slices.Clone(extents)
	slices.SortFunc(sorted, func(a, b extent) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.end, b.end))
	})
	at, before := uint64(0), "the header"
	for _, e := range sorted {
		switch {
		case e.first < at:
			return fmt.Errorf("tensor %s: starts at byte %d of the data and overlaps %s, which ends at %d",
				e.Name, e.first, before, at)
		case e.first > at:
			return fmt.Errorf("tensor %s: starts at byte %d of the data, which leaves a hole after %s, which ends at %d",
				e.Name, e.first, before, at)
		}
		at, before = e.end, "tensor "+e.Name
	}
	if at != bodyBytes {
		return fmt.Errorf("%d bytes follow the last tensor's end: not a safetensors file as any library writes it",
			bodyBytes-at)
	}
	return nil
}
