package hf

import (
	"os"
	"strings"
	"testing"
)

func TestTorchHostile(t *testing.T) {
	file, err := os.ReadFile("testdata/torch/legacy.bin")
	if err != nil {
		t.Fatal(err)
	}
	prefix := string(legacyMagic) + "\x80\x02}." // then the state
	for _, c := range []struct{ name, file, want string }{
		{"not torch", "hello", "not what torch.save writes"},
		{"runs a command", prefix + "\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "posix.system"},
		{"runs eval", prefix + "\x80\x02cbuiltins\neval\n.", "builtins.eval"},
		{"8-byte length", prefix + "\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "0x8e"},
		{"frame", prefix + "\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "0x95"},
		{"string of 4 GB", prefix + "\x80\x02X\xff\xff\xff\xff.", "cut short"},
		{"empty stack", prefix + "\x80\x02R.", "malformed"},
		{"unhashable key", prefix + "\x80\x02ccollections\nOrderedDict\n)R]]s.", ""},
		{"marks", prefix + "\x80\x02" + strings.Repeat("(", 100) + ".", "marks"},
		{"unbalanced", prefix + "\x80\x02t.", "marks"},
		{"contains itself", prefix + "\x80\x02]q\x00h\x00a." + "\x80\x02].", "does not hold a dict"},
		{"key that contains itself", prefix + "\x80\x02}]q\x00h\x00ah\x00s." + "\x80\x02].", "is not a tensor"},
		{"number for a state", prefix + "\x80\x02K\x01." + "\x80\x02].", "does not hold a dict"},
		{"entry is a number", prefix + "\x80\x02}X\x01\x00\x00\x00aK\x01s." + "\x80\x02].", `"a" is not a tensor`},
		{"storage too small", strings.Replace(string(file), "K\x03K\x05\x86", "K\x7fK\x05\x86", 1), "f32"},
		{"storage key without tensor", prefix + "\x80\x02}." + "\x80\x02]X\x01\x00\x00\x00aa.", `"a"`},
	} {
		_, _, err := parseTorch([]byte(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "save_file") {
			t.Errorf("%s: error %v does not say %q and how to convert", c.name, err, c.want)
		}
	}
}
