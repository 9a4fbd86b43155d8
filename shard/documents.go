package shard

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
)

// dataFormat is how a source holds its documents, as the ending of its name says.
type dataFormat string

const (
	formatText    dataFormat = "plain text" // whatever has another ending
	formatJSONL   dataFormat = "JSON lines"
	formatCSV     dataFormat = "CSV"
	formatTSV     dataFormat = "TSV"
	formatParquet dataFormat = "Parquet"
)

var formatEndings = map[string]dataFormat{
	".txt": formatText, ".jsonl": formatJSONL, ".ndjson": formatJSONL, ".json": formatJSONL,
	".csv": formatCSV, ".tsv": formatTSV, ".parquet": formatParquet,
}

// directoryEndings are those of the files that a directory stands for, each of them but the last compressed too. A .json beside
// them is often a description, so it is read only where it is named.
const directoryEndings = ".txt .jsonl .ndjson .csv .tsv (each also with .gz, .zst, .bz2 or .xz) .parquet"

// formatOf goes by the ending, in any case. Parquet compresses its pages itself.
func formatOf(name string) (dataFormat, compression) {
	name = strings.ToLower(name)
	how := compressionEndings[path.Ext(name)]
	if how != compressNone {
		name = strings.TrimSuffix(name, path.Ext(name))
	}
	format, ok := formatEndings[path.Ext(name)]
	if !ok {
		format = formatText
	}
	return format, how
}

// inDirectory says whether a directory stands for a file of this name.
func inDirectory(name string) bool {
	name = strings.ToLower(name)
	ending := path.Ext(name)
	if compressionEndings[ending] != compressNone {
		if ending = path.Ext(strings.TrimSuffix(name, ending)); ending == ".parquet" {
			return false
		}
	}
	_, known := formatEndings[ending]
	return known && ending != ".json"
}

// defaultTextField is the name that most data sets give it.
const defaultTextField = "text"

// readOptions say how sources become documents.
type readOptions struct {
	textUnit         TextUnit // of plain text; in the other formats a record is a document
	textField        string   // of a record; with dots, a field in a field
	encodingErrors   EncodingErrors
	maxDocumentBytes int64 // of a document, or the record that holds it; 0: as many as shards can count
}

// docReader streams the documents of a source of any format.
type docReader struct {
	path   string
	source int
	opts   readOptions
	file   sourceFile
	sum    hash.Hash // of what was read from the start on; nil in Parquet, which is read here and there
	raw    io.Reader // file, through sum

	stream   documentStream
	close    []io.Closer
	replaced *int64 // the stream's count
	nuls     int64  // that became U+FFFD
	failed   error
}

// openDocuments opens a source. What is wrong with its content, next says.
func openDocuments(path string, source int, opts readOptions) (*docReader, error) {
	file, err := openSource(path)
	if err != nil {
		return nil, err
	}
	return newDocReader(file, path, source, opts), nil
}

func newDocReader(file sourceFile, path string, source int, opts readOptions) *docReader {
	if opts.textField == "" {
		opts.textField = defaultTextField
	}
	if opts.maxDocumentBytes == 0 {
		opts.maxDocumentBytes = maxDocumentBytes
	}
	d := &docReader{path: path, source: source, opts: opts, file: file, raw: file}
	if format, _ := formatOf(path); format != formatParquet {
		d.sum = sha256.New()
		d.raw = io.TeeReader(file, d.sum)
	}
	return d
}

// next returns the next document, or io.EOF. A *BadRecord that goes on may be passed over by calling it again; any other error
// ends the source.
func (d *docReader) next() (document, error) {
	if d.failed != nil {
		return document{}, d.failed
	}
	if d.stream == nil {
		if err := d.open(); err != nil {
			d.failed = err
			return document{}, err
		}
	}
	doc, err := d.stream.next()
	if err != nil {
		return document{}, err
	}
	at := strings.IndexByte(doc.text, 0)
	if at < 0 {
		return doc, nil
	}
	if d.opts.encodingErrors != EncodingReplace {
		return document{}, d.nul(doc, at)
	}
	d.nuls += int64(strings.Count(doc.text, "\x00"))
	doc.text = strings.ReplaceAll(doc.text, "\x00", replacement)
	return doc, nil
}

// nul is the error of a document with a NUL, which no text has: more likely it is UTF-16, or a hole that a crash left in a file.
func (d *docReader) nul(doc document, at int) error {
	bad := &BadRecord{Path: d.path, Offset: doc.offset, Line: doc.line, Reason: ReasonNUL, GoesOn: true,
		Detail: "in the document that begins at this byte",
		Hint:   "take it out, or set encoding_errors: replace to read it as U+FFFD"}
	switch format, _ := formatOf(d.path); format {
	case formatText:
		bad.Line += int64(strings.Count(doc.text[:at], "\n"))
	case formatParquet:
		bad.Offset, bad.Detail = -1, fmt.Sprintf("in %q", d.opts.textField)
	}
	return bad
}

// replacements is how many U+FFFD were put in.
func (d *docReader) replacements() int64 {
	if d.replaced == nil {
		return d.nuls
	}
	return *d.replaced + d.nuls
}

// open looks at what the source begins with and chooses its reader.
func (d *docReader) open() error {
	format, how := formatOf(d.path)
	limit := d.opts.maxDocumentBytes
	if format == formatParquet {
		if how != compressNone {
			return &BadRecord{Path: d.path, Offset: -1, Reason: ReasonWrongContent, Detail: "Parquet cannot be read from an archive",
				Hint: "decompress it; Parquet compresses its pages itself"}
		}
		p := newParquetReader(d.file, d.file.Size(), d.path, d.source, d.opts.textField, d.opts.encodingErrors)
		p.limit = limit
		d.stream, d.replaced = p, &p.replaced
		return nil
	}
	r := d.raw
	if how != compressNone {
		dec, err := decompress(r, d.path, how)
		if err != nil {
			return err
		}
		r, d.close = dec, append(d.close, dec)
	}
	// The lines' reader takes this buffer for its own.
	buf := bufio.NewReaderSize(r, readBufferBytes)
	head, _ := buf.Peek(sniffBytes) // an error comes again where the stream reads on
	if found := sniff(head); found.name != "" {
		return wrongContent(d.path, "it is to hold "+string(format), found)
	}
	switch format {
	case formatCSV, formatTSV:
		comma := byte(',')
		if format == formatTSV {
			comma = '\t'
		}
		c := newCSVReader(buf, d.path, d.source, comma, d.opts.textField, d.opts.encodingErrors)
		c.limit = limit
		d.stream, d.replaced = c, &c.replaced
	case formatJSONL:
		lines := newLineReader(buf, d.path, d.opts.encodingErrors)
		lines.limit = limit
		d.stream, d.replaced = newJSONLines(lines, d.source, d.opts.textField), &lines.replaced
	default:
		s := newSplitter(buf, d.path, d.source, d.opts.textUnit, d.opts.encodingErrors)
		s.limit = limit
		d.stream, d.replaced = s, &s.replaced
	}
	return nil
}

// sha256 returns the hash of the whole source as it lies, in hexadecimal. It reads what is left; call it last.
func (d *docReader) sha256() (string, error) {
	sum, raw := d.sum, d.raw
	if sum == nil {
		sum = sha256.New()
		raw = io.TeeReader(io.NewSectionReader(d.file, 0, 1<<62), sum)
	}
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return "", fmt.Errorf("shard: read %s: %w", d.path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Close closes the source.
func (d *docReader) Close() error {
	for _, c := range d.close {
		_ = c.Close() // only lets go of memory
	}
	if err := d.file.Close(); err != nil {
		return fmt.Errorf("shard: close %s: %w", d.path, err)
	}
	return nil
}
