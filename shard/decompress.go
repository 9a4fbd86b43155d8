package shard

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// compression is how a source is compressed, as the ending of its name says.
type compression string

const (
	compressNone  compression = ""
	compressGzip  compression = "gzip"
	compressZstd  compression = "zstd"
	compressBzip2 compression = "bzip2"
	compressXZ    compression = "xz"
)

var compressionEndings = map[string]compression{
	".gz": compressGzip, ".zst": compressZstd, ".bz2": compressBzip2, ".xz": compressXZ,
}

// maxWindowBytes bounds what a decompressor remembers of what it wrote: what zstd takes without --long, and twice xz -9.
const maxWindowBytes = 128 << 20

// decompressor decodes one compressed source: every member, frame or stream that follows another. Its errors, except those
// of reading the source, are bad records that end it.
type decompressor struct {
	path   string
	how    compression
	raw    *rawReader
	dec    io.Reader
	offset int64 // decoded so far
	failed error
	close  func()
}

// decompress decodes r. The source must begin as its ending says.
func decompress(r io.Reader, path string, how compression) (*decompressor, error) {
	d := &decompressor{path: path, how: how, raw: &rawReader{r: r}, close: func() {}}
	buf := bufio.NewReaderSize(d.raw, readBufferBytes)
	head, err := buf.Peek(sniffBytes)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("shard: read %s: %w", path, err)
	}
	if len(head) == 0 {
		return nil, &BadRecord{Path: path, Reason: ReasonTruncated, Detail: "the file is empty", Hint: d.hint()}
	}
	if found := sniff(head); found.compression != how {
		return nil, wrongContent(path, "its ending says "+string(how), found)
	}
	if err := d.open(buf); err != nil {
		return nil, d.bad(err)
	}
	return d, nil
}

func (d *decompressor) open(buf *bufio.Reader) (err error) {
	defer recoverCorrupt(&err)
	switch d.how {
	case compressGzip:
		d.dec = &gzipMembers{buf: buf}
	case compressBzip2:
		d.dec = bzip2.NewReader(buf)
	case compressXZ:
		if err := checkXZWindow(buf); err != nil {
			return err
		}
		d.dec, err = xz.NewReader(xzEnd{buf, d.raw})
	case compressZstd:
		// A decoder of one goroutine, this one, so that nothing outlives a reader that is let go.
		dec, err := zstd.NewReader(buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindowBytes), zstd.WithDecoderLowmem(true))
		if err != nil {
			return err
		}
		d.dec, d.close = dec, dec.Close
	default:
		return fmt.Errorf("unknown compression %q", d.how)
	}
	return err
}

func (d *decompressor) Read(p []byte) (int, error) {
	if d.failed != nil {
		return 0, d.failed
	}
	n, err := d.read(p)
	d.offset += int64(n)
	if err != nil && err != io.EOF {
		err = d.bad(err)
	}
	d.failed = err
	return n, err
}

func (d *decompressor) read(p []byte) (n int, err error) {
	defer recoverCorrupt(&err)
	return d.dec.Read(p)
}

func (d *decompressor) Close() error {
	d.close()
	return nil
}

var errWindow = fmt.Errorf("its window is larger than %d MiB", maxWindowBytes>>20)

// bad says what is wrong with the archive.
func (d *decompressor) bad(err error) error {
	if d.raw.failed != nil {
		return fmt.Errorf("shard: read %s: %w", d.path, d.raw.failed)
	}
	bad := &BadRecord{Path: d.path, Offset: d.offset, Reason: ReasonCorrupt, Err: err, Hint: d.hint()}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		bad.Reason, bad.Err = ReasonTruncated, io.ErrUnexpectedEOF
	case errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, errWindow):
		bad.Reason, bad.Err = ReasonTooMuch, errWindow
		bad.Hint = "compress it again without --long or with a smaller dictionary"
	}
	return bad
}

func (d *decompressor) hint() string {
	tool := map[compression]string{compressGzip: "gzip -t", compressZstd: "zstd -t", compressBzip2: "bzip2 -t", compressXZ: "xz -t"}[d.how]
	return "fetch or make the file again (" + tool + " checks it); bytes are counted after decompression"
}

// recoverCorrupt makes an error of a panic: some decoders index past their tables where an archive is damaged.
func recoverCorrupt(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the decoder gave up: %v", r)
	}
}

// rawReader remembers an error of reading the file, which is none of the archive's, and how the file ended so far.
type rawReader struct {
	r      io.Reader
	failed error
	last   [12]byte // before the zeros
	zeros  int64    // at the end
}

func (r *rawReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.keep(p[:n])
	if err != nil && err != io.EOF {
		r.failed = err
	}
	return n, err
}

// gzipMembers decodes gzip members one after the other, and takes zeros behind the last one, as gzip and Python do.
type gzipMembers struct {
	buf    *bufio.Reader
	member *gzip.Reader
	within bool // a member
}

func (g *gzipMembers) Read(p []byte) (int, error) {
	for {
		if !g.within {
			if err := g.begin(); err != nil {
				return 0, err
			}
		}
		n, err := g.member.Read(p)
		if err == io.EOF {
			g.within, err = false, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// begin opens the next member, or returns io.EOF.
func (g *gzipMembers) begin() error {
	if g.member == nil {
		g.member = new(gzip.Reader)
	} else if err := skipZeros(g.buf); err != nil {
		return err
	}
	if err := g.member.Reset(g.buf); err != nil {
		return noEOF(err)
	}
	g.member.Multistream(false)
	g.within = true
	return nil
}

func skipZeros(r *bufio.Reader) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return r.UnreadByte()
		}
	}
}

// noEOF is for an end in the middle of something.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// checkXZWindow looks at the first block's dictionary, which xz's encoders keep through a file. The decoder would
// allocate up to 4 GiB for it at once. (The .xz File Format 1.1.0, 3.1 and 5.3.1)
func checkXZWindow(buf *bufio.Reader) error {
	head, _ := buf.Peek(12 + 1024)
	if len(head) < 13 || head[12] == 0 {
		return nil // no block; whatever is wrong, the decoder says
	}
	block := head[12:]
	block = block[:min(len(block), (int(block[0])+1)*4)]
	at := 2
	for _, bit := range []byte{0x40, 0x80} { // sizes, where the flags say so
		if len(block) > 1 && block[1]&bit != 0 {
			_, n := binary.Uvarint(block[min(at, len(block)):])
			at += max(n, 0)
		}
	}
	for at+2 < len(block) {
		id, n := binary.Uvarint(block[at:])
		size, m := binary.Uvarint(block[min(at+max(n, 0), len(block)):])
		if n <= 0 || m <= 0 || size > 1024 {
			return nil
		}
		at += n + m
		if id == 0x21 && size == 1 && at < len(block) {
			if bits := block[at]; bits > 40 || (2|uint64(bits&1))<<(bits/2+11) > maxWindowBytes {
				return errWindow
			}
			return nil
		}
		at += int(size)
	}
	return nil
}

// xzEnd makes an end of the input an unexpected one unless a stream's footer, and zeros as padding, lie before it: the
// decoder takes an end between two blocks for the end of the stream.
type xzEnd struct {
	*bufio.Reader
	raw *rawReader
}

func (x xzEnd) Read(p []byte) (int, error) {
	n, err := x.Reader.Read(p)
	if err == io.EOF && !x.raw.endsAsXZ() {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// endsAsXZ looks for a footer (The .xz File Format 1.1.0, 2.1.2).
func (r *rawReader) endsAsXZ() bool {
	return r.zeros%4 == 0 && string(r.last[10:]) == "YZ" && crc32.ChecksumIEEE(r.last[4:10]) == le.Uint32(r.last[:])
}

// keep remembers the last bytes that were read, apart from the zeros at the end.
func (r *rawReader) keep(b []byte) {
	text := bytes.TrimRight(b, "\x00")
	if len(text) == 0 {
		r.zeros += int64(len(b))
		return
	}
	zeros := int64(len(b) - len(text))
	if n := len(r.last); len(text) < n {
		gap := make([]byte, min(r.zeros, int64(n)))
		text = append(append(append(make([]byte, 0, 3*n), r.last[:]...), gap...), text...)
	}
	copy(r.last[:], text[len(text)-len(r.last):])
	r.zeros = zeros
}
