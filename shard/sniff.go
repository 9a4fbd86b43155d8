package shard

import (
	"bytes"
	"strings"
)

// sniffBytes is how much of a file sniff wants to see.
const sniffBytes = 512

// kind is what the first bytes of a file look like.
type kind struct {
	compression compression
	parquet     bool
	name        string // for a message; empty for what may be text
}

var magics = []struct {
	magic string
	kind
}{
	{"\x1f\x8b", kind{compression: compressGzip, name: "gzip"}},
	{"\x28\xb5\x2f\xfd", kind{compression: compressZstd, name: "zstd"}},
	{"BZh", kind{compression: compressBzip2, name: "bzip2"}},
	{"\xfd7zXZ\x00", kind{compression: compressXZ, name: "xz"}},
	{"PAR1\x15", kind{parquet: true, name: "Parquet"}},
	{"PK\x03\x04", kind{name: "a zip archive"}},
	{"7z\xbc\xaf\x27\x1c", kind{name: "a 7z archive"}},
	{"\xff\xfe", kind{name: "UTF-16"}},
	{"\xfe\xff", kind{name: "UTF-16"}},
	{"%PDF-", kind{name: "PDF"}},
	{"\x7fELF", kind{name: "a program"}},
	{"\x89PNG", kind{name: "an image"}},
	{"\xff\xd8\xff", kind{name: "an image"}},
	{"ARROW1\x00\x00", kind{name: "an Arrow file"}},
	{"SQLite format 3\x00", kind{name: "an SQLite database"}},
}

// sniff tells what begins with head.
func sniff(head []byte) kind {
	for _, m := range magics {
		if !bytes.HasPrefix(head, []byte(m.magic)) {
			continue
		}
		// "BZh" begins a text as well as an archive, whose next bytes are a level and a block's or the end's mark.
		if m.compression == compressBzip2 && !(len(head) >= 10 && head[3] >= '1' && head[3] <= '9' &&
			(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90")) {
			continue
		}
		return m.kind
	}
	// Skippable frames may come before those of zstd.
	if len(head) >= 4 && le.Uint32(head)&^0xF == 0x184D2A50 {
		return kind{compression: compressZstd, name: "zstd"}
	}
	if len(head) >= 262 && string(head[257:262]) == "ustar" {
		return kind{name: "a tar archive"}
	}
	return kind{}
}

// wrongContent is the error of a file that is not what was expected.
func wrongContent(path, expected string, found kind) error {
	name, hint := found.name, "give it the ending of what it holds"
	switch {
	case name == "":
		name = "something else, perhaps plain text"
	case name == "UTF-16":
		hint = "convert it (iconv -f UTF-16 -t UTF-8)"
	case found.compression != compressNone:
		for ending, how := range compressionEndings {
			if how == found.compression {
				hint = "name it " + strings.TrimSuffix(path, ending) + ending
			}
		}
	case found.parquet:
		hint = "name it with the ending .parquet"
	default:
		hint = "unpack or convert it, or take it out of data"
	}
	return &BadRecord{Path: path, Offset: -1, Reason: ReasonWrongContent, Detail: expected + ", and it is " + name, Hint: hint}
}
