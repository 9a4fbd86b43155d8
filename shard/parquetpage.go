package shard

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// maxPageBytes bounds a page of Parquet, which is held in memory. Writers make pages of about 1 MiB, larger ones for a larger value.
const maxPageBytes = 256 << 20

// maxPageHeaderBytes bounds a page's header, which may hold its smallest and its largest value.
const maxPageHeaderBytes = 16 << 20

// columnPages reads the strings of a column, one a row, a page at a time. (parquet-go, which reads the file's description, takes memory
// for whatever a damaged page says or unfolds to: for LZ4 until there is none.)
type columnPages struct {
	limit   int64 // largest page, in bytes
	depth   int   // definition level of what is no null
	raw     io.ReaderAt
	at, end int64 // what is unread of the column in the row group
	codec   format.CompressionCodec
	rows    int64 // left in pages to come

	dict   dictionary
	left   int64  // rows in the page
	levels hybrid // of definition, where depth > 0
	values byteArrays

	head, body, unfolded []byte // reused
	zstd                 *zstd.Decoder
	gzip                 gzip.Reader
}

// begin turns to the column's part of a row group.
func (c *columnPages) begin(raw *rawReaderAt, meta format.ColumnMetaData, rows int64) error {
	start := meta.DataPageOffset
	if d := meta.DictionaryPageOffset; d > 0 && d < start {
		start = d
	}
	end := start + meta.TotalCompressedSize
	if start < 0 || end < start || end > raw.size {
		return fmt.Errorf("the column lies at bytes %d to %d of %d", start, end, raw.size)
	}
	c.raw, c.at, c.end, c.codec, c.rows = raw, start, end, meta.Codec, rows
	c.left = 0
	return c.dict.set(nil, 0)
}

// next returns the next row's string, valid until the one after it, or that it is null.
func (c *columnPages) next() (value []byte, null bool, err error) {
	for c.left == 0 {
		if err := c.page(); err != nil {
			return nil, false, err
		}
	}
	c.left--
	if c.depth > 0 {
		level, err := c.levels.next()
		if err != nil || int(level) != c.depth {
			return nil, true, err
		}
	}
	value, err = c.values.next()
	return value, false, err
}

// page reads a page.
func (c *columnPages) page() error {
	if c.at >= c.end {
		return io.ErrUnexpectedEOF
	}
	h, start, err := c.header()
	if err != nil {
		return err
	}
	size := int64(h.CompressedPageSize)
	if size < 0 || h.UncompressedPageSize < 0 || size > c.end-start {
		return fmt.Errorf("a page of %d bytes, where %d are left", size, c.end-start)
	}
	if most := max(size, int64(h.UncompressedPageSize)); most > c.limit {
		return &BadRecord{Reason: ReasonTooMuch, Err: fmt.Errorf("a page has %d bytes", most),
			Hint: fmt.Sprintf("write it again with pages of at most %d MiB", c.limit>>20)}
	}
	c.body = grow(c.body, int(size))
	if _, err := c.raw.ReadAt(c.body, start); err != nil {
		return noEOF(err)
	}
	c.at = start + size
	if h.CRC != 0 && uint32(h.CRC) != crc32.ChecksumIEEE(c.body) {
		return fmt.Errorf("a page's checksum is wrong")
	}
	switch {
	case h.Type == format.DictionaryPage && h.DictionaryPageHeader.Valid:
		b, err := c.unfold(c.body, int64(h.UncompressedPageSize))
		if err != nil {
			return err
		}
		return c.dict.set(b, int64(h.DictionaryPageHeader.V.NumValues))
	case h.Type == format.DataPage && h.DataPageHeader.Valid:
		return c.dataPage(&h)
	case h.Type == format.DataPageV2 && h.DataPageHeaderV2.Valid:
		return c.dataPageV2(&h)
	}
	return nil // an index, or what a later version has
}

// header reads the page header at c.at, and says where the page's body begins.
func (c *columnPages) header() (h format.PageHeader, body int64, err error) {
	for size := int64(4 << 10); ; size *= 4 {
		size = min(size, c.end-c.at)
		c.head = grow(c.head, int(size))
		if _, err := c.raw.ReadAt(c.head, c.at); err != nil {
			return h, 0, noEOF(err)
		}
		n, err := thriftBytes(c.head)
		if err == io.ErrUnexpectedEOF && size < min(maxPageHeaderBytes, c.end-c.at) {
			continue
		}
		if err != nil {
			return h, 0, err
		}
		err = thrift.NewDecoder(new(thrift.CompactProtocol).NewReaderFromBytes(c.head[:n])).Decode(&h)
		return h, c.at + int64(n), noEOF(err)
	}
}

func (c *columnPages) dataPage(h *format.PageHeader) error {
	v := &h.DataPageHeader.V
	b, err := c.unfold(c.body, int64(h.UncompressedPageSize))
	if err != nil {
		return err
	}
	var levels []byte
	if c.depth > 0 {
		if v.DefinitionLevelEncoding != format.RLE {
			return fmt.Errorf("levels in the encoding %s, which is not supported", v.DefinitionLevelEncoding)
		}
		sized := plainArrays{b} // they lie behind their length, as a string does
		if levels, err = sized.next(); err != nil {
			return err
		}
		b = sized.b
	}
	return c.setValues(int64(v.NumValues), levels, v.Encoding, b)
}

func (c *columnPages) dataPageV2(h *format.PageHeader) error {
	v := &h.DataPageHeaderV2.V
	repetition, definition := int64(v.RepetitionLevelsByteLength), int64(v.DefinitionLevelsByteLength)
	size := int64(h.UncompressedPageSize)
	if min(repetition, definition) < 0 || repetition+definition > min(size, int64(len(c.body))) {
		return fmt.Errorf("a page of %d bytes with levels of %d and %d", size, repetition, definition)
	}
	levels, b := c.body[repetition:repetition+definition], c.body[repetition+definition:]
	if !v.IsCompressed.Valid || v.IsCompressed.V {
		var err error
		if b, err = c.unfold(b, size-repetition-definition); err != nil {
			return err
		}
	}
	return c.setValues(int64(v.NumValues), levels, v.Encoding, b)
}

// setValues makes a page's rows those that come next.
func (c *columnPages) setValues(rows int64, levels []byte, encoding format.Encoding, b []byte) (err error) {
	if rows < 0 || rows > c.rows {
		return fmt.Errorf("a page of %d rows, where %d are left", rows, c.rows)
	}
	c.rows -= rows
	c.left = rows
	c.levels = hybrid{b: levels, width: bits.Len(uint(c.depth))}
	switch encoding {
	case format.Plain:
		c.values = &plainArrays{b}
	//lint:ignore SA1019 what older writers wrote
	case format.PlainDictionary, format.RLEDictionary:
		numbers := hybrid{}
		if len(b) > 0 { // a page of nulls may have none
			numbers = hybrid{b: b[1:], width: int(b[0])}
		}
		if numbers.width > 32 {
			return fmt.Errorf("%w: numbers of %d bits", errEncoding, numbers.width)
		}
		c.values = &dictArrays{&c.dict, numbers}
	case format.DeltaLengthByteArray:
		c.values, err = newDeltaLengths(b)
	case format.DeltaByteArray:
		c.values, err = newDeltaArrays(b)
	default:
		return fmt.Errorf("the encoding %s is not one of strings", encoding)
	}
	return err
}

// unfold decompresses to size bytes, no more and no less; they are valid until the next call.
func (c *columnPages) unfold(body []byte, size int64) (b []byte, err error) {
	switch c.codec {
	case format.Uncompressed:
		b = body
	case format.Snappy:
		var n int
		if n, err = snappy.DecodedLen(body); err == nil && int64(n) == size {
			b, err = snappy.Decode(c.room(size), body)
		}
	case format.Lz4Raw:
		var n int
		if n, err = lz4.UncompressBlock(body, c.room(size)); err == nil {
			b = c.unfolded[:n]
		}
	case format.Zstd:
		if c.zstd == nil {
			c.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(c.limit)))
			if err != nil {
				return nil, err
			}
		}
		b, err = c.zstd.DecodeAll(body, c.room(size)[:0])
	case format.Gzip:
		if err = c.gzip.Reset(bytes.NewReader(body)); err == nil {
			b, err = c.readAll(&c.gzip, size)
		}
	case format.Brotli:
		b, err = c.readAll(brotli.NewReader(bytes.NewReader(body)), size)
	default:
		return nil, fmt.Errorf("its compression %s is not supported; write it again with zstd or snappy", c.codec)
	}
	if err != nil {
		return nil, fmt.Errorf("decompress a page: %w", err)
	}
	if int64(len(b)) != size {
		return nil, fmt.Errorf("a page unfolds to other than the %d bytes that it says", size)
	}
	return b, nil
}

// readAll reads size bytes, behind which r is to end.
func (c *columnPages) readAll(r io.Reader, size int64) ([]byte, error) {
	b := c.room(size + 1)
	n, err := io.ReadFull(r, b)
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		return b[:n], nil
	}
	return b[:n], err
}

func (c *columnPages) room(size int64) []byte {
	c.unfolded = grow(c.unfolded, int(size))
	return c.unfolded
}

// grow returns a slice of n bytes, b where it is large enough.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
