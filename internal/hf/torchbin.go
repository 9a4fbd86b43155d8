package hf

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"path"

	"github.com/nlpodyssey/gopickle/types"
)

// torchHint ends every error about a pytorch_model.bin.
const torchHint = `if Python's torch reads the file, convert it in its directory: python3 -c 'import torch; ` +
	`from safetensors.torch import save_file; save_file({k: v.contiguous().clone() for k, v in torch.load("pytorch_model.bin", ` +
	`map_location="cpu", weights_only=True).items()}, "model.safetensors", {"format": "pt"})'`

// parseTorch reads the tensors of a file that torch.save wrote from a state dict:
// a zip archive, or the stream that torch before 1.6 wrote. Contiguous tensors are
// slices of file, others are copied. Checksums of the archive are not verified.
func parseTorch(file []byte) (tensors []Tensor, metadata map[string]string, err error) {
	if bytes.HasPrefix(file, []byte("PK\x03\x04")) {
		tensors, err = parseTorchZip(file)
	} else {
		tensors, err = parseTorchLegacy(file)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w (%s)", err, torchHint)
	}
	return tensors, nil, nil
}

// parseTorchZip reads the archive format: NAME/data.pkl describes the tensors,
// NAME/data/KEY is the data of one storage each, uncompressed.
func parseTorchZip(file []byte) ([]Tensor, error) {
	archive, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, fmt.Errorf("read as a zip archive: %w", err)
	}
	records := make(map[string]*zip.File, len(archive.File))
	root := ""
	for _, f := range archive.File {
		records[f.Name] = f
		if path.Base(f.Name) == "data.pkl" {
			root = path.Dir(f.Name)
		}
	}
	record := func(name string) ([]byte, error) { return zipRecord(file, records[path.Join(root, name)], name) }

	if order, err := record("byteorder"); err == nil && string(order) != "little" {
		return nil, fmt.Errorf("its byte order is %q, not little", order)
	}
	pickled, err := record("data.pkl")
	if err != nil {
		return nil, err
	}
	state, storages, _, err := unpickleTorch(pickled)
	if err != nil {
		return nil, fmt.Errorf("data.pkl: %w", err)
	}
	for key, s := range storages {
		data, err := record("data/" + key)
		if err != nil {
			return nil, err
		}
		if want, err := tensorBytes(s.dtype, []int64{s.elements}); err != nil || want > uint64(len(data)) {
			return nil, fmt.Errorf("storage %s holds %d bytes, too few for %d elements of %s", key, len(data), s.elements, s.dtype)
		}
		s.data = data
	}
	return stateTensors(state, uint64(len(file)))
}

// zipRecord is the bytes of an uncompressed record.
func zipRecord(file []byte, f *zip.File, name string) ([]byte, error) {
	if f == nil {
		return nil, fmt.Errorf("the zip archive has no %s", name)
	}
	offset, err := f.DataOffset()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	if f.Method != zip.Store || f.CompressedSize64 != f.UncompressedSize64 {
		return nil, fmt.Errorf("%s is compressed, which torch.save never does", f.Name)
	}
	size := f.UncompressedSize64
	if offset < 0 || offset > int64(len(file)) || size > uint64(len(file))-uint64(offset) {
		return nil, fmt.Errorf("%s ends beyond the file: it is cut short", f.Name)
	}
	end := uint64(offset) + size
	return file[offset:end:end], nil
}

// The two pickles that begin a stream of torch before 1.6: a magic number and the
// version of the protocol, 1001.
var legacyMagic = []byte("\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")

// parseTorchLegacy reads the stream format: magic, system information, the state,
// the keys of the storages, then for each its number of elements and its data.
func parseTorchLegacy(file []byte) ([]Tensor, error) {
	rest, ok := bytes.CutPrefix(file, legacyMagic)
	if !ok {
		return nil, errors.New("is not what torch.save writes: neither a zip archive nor torch's older format")
	}
	_, _, n, err := unpickleTorch(rest)
	if err != nil {
		return nil, fmt.Errorf("system information: %w", err)
	}
	rest = rest[n:]
	state, storages, n, err := unpickleTorch(rest)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	rest = rest[n:]
	value, _, n, err := unpickleTorch(rest)
	if err != nil {
		return nil, fmt.Errorf("storage keys: %w", err)
	}
	keys, ok := value.(*types.List)
	if !ok {
		return nil, errors.New("storage keys are not a list")
	}
	if err := readLegacyStorages(rest[n:], *keys, storages); err != nil {
		return nil, err
	}
	return stateTensors(state, uint64(len(file)))
}

func readLegacyStorages(rest []byte, keys []any, storages map[string]*torchStorage) error {
	for _, key := range keys {
		name, _ := key.(string)
		s := storages[name]
		if s == nil || s.data != nil {
			return fmt.Errorf("storage %q is listed but no tensor uses it, or it is listed twice", name)
		}
		if len(rest) < 8 {
			return fmt.Errorf("storage %s: the file is cut short", name)
		}
		elements := int64(binary.LittleEndian.Uint64(rest))
		rest = rest[8:]
		size, err := tensorBytes(s.dtype, []int64{elements})
		if err != nil || elements < s.elements || size > uint64(len(rest)) {
			return fmt.Errorf("storage %s: %d elements of %s do not fit the %d bytes that follow: the file is cut short",
				name, elements, s.dtype, len(rest))
		}
		s.data, rest = rest[:size:size], rest[size:]
	}
	return nil
}

// stateTensors turns an unpickled state dict into tensors. Those that have to be
// copied may take copyBytes together: many views of one storage could ask for more
// memory than there is.
func stateTensors(state any, copyBytes uint64) ([]Tensor, error) {
	var tensors []Tensor
	seen := map[string]bool{}
	add := func(key, value any) error {
		name, isString := key.(string)
		t, isTensor := value.(*torchTensor)
		if !isString || !isTensor || seen[name] { // a key of another type is not printed: it may contain itself
			return fmt.Errorf("entry %.100q is not a tensor under a name of its own, as a pytorch_model.bin has them", name)
		}
		seen[name] = true
		tensor, err := t.tensor(name, &copyBytes)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", name, err)
		}
		tensors = append(tensors, tensor)
		return nil
	}
	switch dict := state.(type) {
	case *types.OrderedDict:
		for e := dict.List.Front(); e != nil; e = e.Next() {
			entry := e.Value.(*types.OrderedDictEntry)
			if err := add(entry.Key, entry.Value); err != nil {
				return nil, err
			}
		}
	case *types.Dict:
		for _, entry := range *dict {
			if err := add(entry.Key, entry.Value); err != nil {
				return nil, err
			}
		}
	default:
		return nil, errors.New("does not hold a dict; a pytorch_model.bin maps names to tensors")
	}
	return tensors, nil
}

// torchStorage is one block of elements, which several tensors may view.
type torchStorage struct {
	dtype    DType
	elements int64
	data     []byte // filled in once the pickle is read
}

// torchTensor is a strided view of a storage, in elements.
type torchTensor struct {
	storage *torchStorage
	offset  int64
	size    []int64
	stride  []int64
}

// tensor checks that the view stays inside its storage and gives it row-major. What
// a copy takes is subtracted from copyBytes.
func (t *torchTensor) tensor(name string, copyBytes *uint64) (Tensor, error) {
	s := t.storage
	out := Tensor{Name: name, DType: s.dtype, Shape: t.size}
	bytesWanted, err := tensorBytes(s.dtype, t.size)
	if err != nil {
		return Tensor{}, err
	}
	if err := t.checkBounds(); err != nil {
		return Tensor{}, err
	}
	if bytesWanted == 0 {
		return out, nil
	}
	element := s.dtype.Size()
	if t.contiguous() {
		first := t.offset * element
		end := first + int64(bytesWanted)
		out.Data = s.data[first:end:end]
		return out, nil
	}
	if bytesWanted > *copyBytes {
		return Tensor{}, errors.New("is an expanded view: with it, copies take more memory than the file has bytes")
	}
	*copyBytes -= bytesWanted
	out.Data = t.gather(make([]byte, 0, bytesWanted), 0, t.offset)
	return out, nil
}

// checkBounds demands that the last element that the view reaches is in the storage.
func (t *torchTensor) checkBounds() error {
	if len(t.size) != len(t.stride) || t.offset < 0 {
		return fmt.Errorf("size %v, stride %v and offset %d do not fit together", t.size, t.stride, t.offset)
	}
	last := uint64(t.offset)
	for i, size := range t.size {
		if size == 0 {
			return nil // no element at all
		}
		high, span := bits.Mul64(uint64(size-1), uint64(t.stride[i]))
		if t.stride[i] < 0 || high != 0 || span > math.MaxInt64-last {
			return fmt.Errorf("size %v and stride %v reach beyond memory", t.size, t.stride)
		}
		last += span
	}
	if last >= uint64(t.storage.elements) || t.storage.data == nil { // nil: the file does not list the storage
		return fmt.Errorf("reaches element %d of a storage of %d", last, t.storage.elements)
	}
	return nil
}

func (t *torchTensor) contiguous() bool {
	want := int64(1)
	for i := len(t.size) - 1; i >= 0; i-- {
		if t.size[i] != 1 && t.stride[i] != want {
			return false
		}
		want *= t.size[i]
	}
	return true
}

// gather appends the elements from dimension dim on, row-major; at is in elements.
func (t *torchTensor) gather(dst []byte, dim int, at int64) []byte {
	if dim == len(t.size) {
		element := t.storage.dtype.Size()
		return append(dst, t.storage.data[at*element:(at+1)*element]...)
	}
	for i := range t.size[dim] {
		dst = t.gather(dst, dim+1, at+i*t.stride[dim])
	}
	return dst
}
