package shard

import (
	"bytes"
	"fmt"
	"io"

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

// pageCheck looks at each page of a column before parquet-go does, which takes memory for whatever a page says or unfolds to: a
// damaged LZ4 page alone makes it ask for more until there is none. So a page is decompressed twice.
type pageCheck struct {
	limit   int64 // largest page, in bytes
	raw     io.ReaderAt
	at, end int64 // what is unread of the column
	codec   format.CompressionCodec
	rows    int64 // left
	head    []byte
	body    []byte
	decoded []byte
	zstd    *zstd.Decoder
	gzip    gzip.Reader
}

// begin turns to the column's part of a row group.
func (c *pageCheck) begin(raw *rawReaderAt, meta format.ColumnMetaData, rows int64) error {
	start := meta.DataPageOffset
	if d := meta.DictionaryPageOffset; d > 0 && d < start {
		start = d
	}
	end := start + meta.TotalCompressedSize
	if start < 0 || end < start || end > raw.size {
		return fmt.Errorf("the column lies at bytes %d to %d of %d", start, end, raw.size)
	}
	c.raw, c.at, c.end, c.codec, c.rows = raw, start, end, meta.Codec, rows
	return nil
}

// page checks the next page of values, and what lies before it.
func (c *pageCheck) page() error {
	for c.at < c.end {
		header, start, err := c.readHeader()
		if err != nil {
			return err
		}
		size := int64(header.CompressedPageSize)
		if size < 0 || header.UncompressedPageSize < 0 || size > c.end-start {
			return fmt.Errorf("a page of %d bytes, where %d are left", size, c.end-start)
		}
		if most := max(size, int64(header.UncompressedPageSize)); most > c.limit {
			return &BadRecord{Reason: ReasonTooMuch, Err: fmt.Errorf("a page has %d bytes", most),
				Hint: fmt.Sprintf("write it again with pages of at most %d MiB", c.limit>>20)}
		}
		c.body = grow(c.body, int(size))
		if _, err := c.raw.ReadAt(c.body, start); err != nil {
			return noEOF(err)
		}
		c.at = start + size
		isData, err := c.counts(&header)
		if err != nil || isData {
			return err
		}
	}
	return nil
}

// readHeader reads the page header at c.at, and says where the page's body begins.
func (c *pageCheck) readHeader() (header format.PageHeader, body int64, err error) {
	for size := int64(4 << 10); ; size *= 4 {
		size = min(size, c.end-c.at)
		c.head = grow(c.head, int(size))
		if _, err := c.raw.ReadAt(c.head, c.at); err != nil {
			return header, 0, noEOF(err)
		}
		n, err := thriftBytes(c.head)
		if err == io.ErrUnexpectedEOF && size < min(maxPageHeaderBytes, c.end-c.at) {
			continue
		}
		if err != nil {
			return header, 0, err
		}
		err = thrift.NewDecoder(new(thrift.CompactProtocol).NewReaderFromBytes(c.head[:n])).Decode(&header)
		return header, c.at + int64(n), noEOF(err)
	}
}

// counts checks the numbers of a page against its size and the rows that are left, and its body.
func (c *pageCheck) counts(h *format.PageHeader) (isData bool, err error) {
	body, size := c.body, int64(h.UncompressedPageSize)
	compressed := true
	switch {
	case h.Type == format.DictionaryPage && h.DictionaryPageHeader.Valid:
		// Each string lies behind its length, of 4 bytes.
		if n := int64(h.DictionaryPageHeader.V.NumValues); n < 0 || n > size/4 {
			return false, fmt.Errorf("a dictionary of %d strings in %d bytes", n, size)
		}
	case h.Type == format.DataPage && h.DataPageHeader.Valid:
		isData = true
		err = c.count(int64(h.DataPageHeader.V.NumValues))
	case h.Type == format.DataPageV2 && h.DataPageHeaderV2.Valid:
		v := h.DataPageHeaderV2.V
		isData = true
		err = c.count(int64(v.NumValues))
		levels := int64(v.RepetitionLevelsByteLength) + int64(v.DefinitionLevelsByteLength)
		if v.NumNulls < 0 || v.NumNulls > v.NumValues || min(v.RepetitionLevelsByteLength, v.DefinitionLevelsByteLength) < 0 ||
			levels > min(size, int64(len(body))) {
			return true, fmt.Errorf("a page of %d values, %d of them null, with %d bytes of levels in %d", v.NumValues, v.NumNulls, levels, size)
		}
		body, size = body[levels:], size-levels
		compressed = !v.IsCompressed.Valid || v.IsCompressed.V
	}
	if err != nil || !compressed {
		return isData, err
	}
	return isData, c.unfold(body, size)
}

func (c *pageCheck) count(values int64) error {
	if values < 0 || values > c.rows {
		return fmt.Errorf("a page of %d values, where %d are left", values, c.rows)
	}
	c.rows -= values
	return nil
}

// unfold decompresses a page's body, to no more than size bytes, which it is to have.
func (c *pageCheck) unfold(body []byte, size int64) error {
	got := int64(-1)
	var err error
	switch c.codec {
	case format.Uncompressed:
		got = int64(len(body))
	case format.Snappy: // says how much it will be, and is held to that
		var n int
		n, err = snappy.DecodedLen(body)
		got = int64(n)
	case format.Lz4Raw:
		var n int
		n, err = lz4.UncompressBlock(body, c.room(size))
		got = int64(n)
	case format.Zstd:
		if c.zstd == nil {
			c.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPageBytes))
			if err != nil {
				return err
			}
		}
		c.decoded, err = c.zstd.DecodeAll(body, c.room(size)[:0])
		got = int64(len(c.decoded))
	case format.Gzip:
		if err = c.gzip.Reset(bytes.NewReader(body)); err == nil {
			got, err = io.Copy(io.Discard, io.LimitReader(&c.gzip, size+1))
		}
	case format.Brotli:
		got, err = io.Copy(io.Discard, io.LimitReader(brotli.NewReader(bytes.NewReader(body)), size+1))
	default:
		return fmt.Errorf("its compression %s is not supported; write it again with zstd or snappy", c.codec)
	}
	if err != nil {
		return fmt.Errorf("decompress a page: %w", err)
	}
	if got != size {
		return fmt.Errorf("a page has %d bytes, where %d are said", got, size)
	}
	return nil
}

func (c *pageCheck) room(size int64) []byte {
	c.decoded = grow(c.decoded, int(size))
	return c.decoded
}

// grow returns a slice of n bytes, b where it is large enough.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
