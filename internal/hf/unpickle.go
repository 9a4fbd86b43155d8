package hf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// maxPickleBytes bounds what torch.save writes beside the data: about 200 bytes a
// tensor, so 20,000 of them.
const maxPickleBytes = 4 << 20

// unpickleTorch reads the pickle at the beginning of data, without running anything
// that it names. It returns the value, the storages that it refers to by key (their
// data are the caller's to fill in) and how many bytes it takes.
//
// The stack machine is gopickle's. On its own it would trust lengths up to 2^63 and
// panics on some malformed input, so checkPickle admits only what torch.save
// writes, and what is left of the panics becomes an error.
func unpickleTorch(data []byte) (value any, storages map[string]*torchStorage, n int, err error) {
	n, err = checkPickle(data)
	if err != nil {
		return nil, nil, 0, err
	}
	defer func() {
		if r := recover(); r != nil {
			value, storages, n, err = nil, nil, 0, fmt.Errorf("malformed pickle: %v", r)
		}
	}()
	storages = map[string]*torchStorage{}
	u := pickle.NewUnpickler(bytes.NewReader(data[:n]))
	u.FindClass = findTorchClass
	u.PersistentLoad = func(id any) (any, error) { return storageByID(id, storages) }
	value, err = u.Load()
	if err != nil {
		return nil, nil, 0, fmt.Errorf("malformed pickle: %w", err)
	}
	return value, storages, n, nil
}

// How the argument of an opcode is measured.
const (
	argRefused = iota
	argNone
	arg1
	arg2
	arg4
	arg8
	argLength1 // one byte of length, then that much
	argLength4 // four bytes of length, then that much
	argGlobal  // two lines: module and name
)

// pickleArgs is the argument of each opcode that torch.save uses (protocol 2, and
// the strings of Python 2).
var pickleArgs = [256]uint8{
	0x80: arg1, '.': argNone, '(': argNone, // PROTO, STOP, MARK
	'}': argNone, ']': argNone, ')': argNone, // empty dict, list, tuple
	't': argNone, 0x85: argNone, 0x86: argNone, 0x87: argNone, // tuples
	's': argNone, 'u': argNone, 'a': argNone, 'e': argNone, // SETITEM(S), APPEND(S)
	'N': argNone, 0x88: argNone, 0x89: argNone, // None, True, False
	'K': arg1, 'M': arg2, 'J': arg4, 0x8a: argLength1, 'G': arg8, // integers, float
	'X': argLength4, 'U': argLength1, 'T': argLength4, // strings
	'q': arg1, 'r': arg4, 'h': arg1, 'j': arg4, // PUT, GET
	'c': argGlobal, 'Q': argNone, 'R': argNone, 'b': argNone, // GLOBAL, BINPERSID, REDUCE, BUILD
}

// checkPickle walks over the opcodes up to the first STOP without interpreting
// them, and returns where it ends. Every opcode, every length and every global name
// must be one that torch.save writes.
func checkPickle(data []byte) (int, error) {
	depth := 0
	for at := 0; ; {
		if at >= min(len(data), maxPickleBytes) {
			return 0, fmt.Errorf("pickle has no end within %d bytes: the file is cut short", at)
		}
		op := data[at]
		size, err := pickleArgSize(op, data[at+1:])
		if err != nil {
			return 0, err
		}
		if size > len(data)-at-1 {
			return 0, errors.New("pickle ends within an argument: the file is cut short")
		}
		at += 1 + size
		switch op {
		case '(':
			depth++
		case 't', 'u', 'e':
			depth--
		case '.':
			return at, nil
		}
		if depth < 0 || depth > 64 { // marks cost memory; torch.save nests about five deep
			return 0, errors.New("pickle's marks are unbalanced or nest too deep")
		}
	}
}

// pickleArgSize is how many bytes of rest belong to op.
func pickleArgSize(op byte, rest []byte) (int, error) {
	switch pickleArgs[op] {
	case argNone:
		return 0, nil
	case arg1:
		return 1, nil
	case arg2:
		return 2, nil
	case arg4:
		return 4, nil
	case arg8:
		return 8, nil
	case argLength1:
		if len(rest) < 1 {
			return 1, nil
		}
		return 1 + int(rest[0]), nil
	case argLength4:
		if len(rest) < 4 {
			return 4, nil
		}
		return 4 + int(binary.LittleEndian.Uint32(rest)), nil
	case argGlobal:
		return globalSize(rest)
	}
	return 0, fmt.Errorf("pickle uses opcode 0x%02x, which torch.save does not write for a state dict", op)
}

// globalSize measures the two lines of GLOBAL, and refuses names that a state dict
// has no use for: a pickle can name any function of Python.
func globalSize(rest []byte) (int, error) {
	head := rest[:min(len(rest), 200)]
	module, after, ok := bytes.Cut(head, []byte("\n"))
	name, _, ok2 := bytes.Cut(after, []byte("\n"))
	if !ok || !ok2 {
		return 0, errors.New("pickle has a global name that does not end")
	}
	qualified := string(module) + "." + string(name)
	if _, err := findTorchClass(string(module), string(name)); err != nil && qualified != "collections.OrderedDict" {
		return 0, err
	}
	return len(module) + len(name) + 2, nil
}

// torchStorages maps torch's storage classes to element types.
var torchStorages = map[string]DType{
	"FloatStorage": F32, "HalfStorage": F16, "BFloat16Storage": BF16, "DoubleStorage": F64, "LongStorage": I64,
	"IntStorage": I32, "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": U8, "BoolStorage": BOOL,
}

// findTorchClass resolves the global names that gopickle does not know itself.
func findTorchClass(module, name string) (any, error) {
	switch dtype, isStorage := torchStorages[name]; {
	case module == "torch" && isStorage:
		return dtype, nil
	case module == "torch._utils" && name == "_rebuild_tensor_v2":
		return callable(rebuildTensor), nil
	case module == "torch._utils" && name == "_rebuild_parameter":
		return callable(rebuildParameter), nil
	}
	return nil, fmt.Errorf("pickle wants to call %s.%s, which is not part of a state dict and is not run", module, name)
}

// callable makes a function what gopickle's REDUCE calls.
type callable func(args ...any) (any, error)

func (f callable) Call(args ...any) (any, error) { return f(args...) }

// maxRank bounds the dimensions of a pickled tensor; torch itself allows 64.
const maxRank = 64

// rebuildTensor is torch._utils._rebuild_tensor_v2(storage, offset, size, stride,
// requires_grad, backward_hooks).
func rebuildTensor(args ...any) (any, error) {
	if len(args) < 4 {
		return nil, errors.New("_rebuild_tensor_v2 has too few arguments")
	}
	storage, ok := args[0].(*torchStorage)
	offset, ok2 := pickledInt(args[1])
	size, ok3 := pickledInts(args[2])
	stride, ok4 := pickledInts(args[3])
	if !ok || !ok2 || !ok3 || !ok4 || len(size) > maxRank {
		return nil, errors.New("_rebuild_tensor_v2 has arguments of other types than torch gives it")
	}
	return &torchTensor{storage: storage, offset: offset, size: size, stride: stride}, nil
}

// rebuildParameter is torch._utils._rebuild_parameter(tensor, requires_grad,
// backward_hooks).
func rebuildParameter(args ...any) (any, error) {
	if len(args) > 0 {
		if t, ok := args[0].(*torchTensor); ok {
			return t, nil
		}
	}
	return nil, errors.New("_rebuild_parameter is not given a tensor")
}

// storageByID resolves ("storage", class, key, device, elements) or, in the older
// format, the same with a view, which is None in what torch writes since 0.4.
func storageByID(id any, storages map[string]*torchStorage) (any, error) {
	tuple, ok := id.(*types.Tuple)
	if !ok || tuple.Len() < 5 || tuple.Get(0) != "storage" || tuple.Len() > 5 && tuple.Get(5) != nil {
		return nil, errors.New("refers to a storage in a way that torch.save does not write")
	}
	dtype, ok := tuple.Get(1).(DType)
	key, ok2 := tuple.Get(2).(string)
	elements, ok3 := pickledInt(tuple.Get(4))
	if !ok || !ok2 || !ok3 || elements < 0 {
		return nil, errors.New("describes a storage in a way that torch.save does not write")
	}
	if s := storages[key]; s != nil {
		if s.dtype != dtype || s.elements != elements {
			return nil, fmt.Errorf("describes storage %s in two ways", key)
		}
		return s, nil
	}
	storages[key] = &torchStorage{dtype: dtype, elements: elements}
	return storages[key], nil
}

func pickledInt(v any) (int64, bool) {
	switch n := v.(type) {
	case int:
		return int64(n), true
	case *big.Int:
		return n.Int64(), n.IsInt64()
	}
	return 0, false
}

func pickledInts(v any) ([]int64, bool) {
	tuple, ok := v.(*types.Tuple)
	if !ok {
		return nil, false
	}
	out := make([]int64, tuple.Len())
	for i := range out {
		if out[i], ok = pickledInt(tuple.Get(i)); !ok {
			return nil, false
		}
	}
	return out, true
}
