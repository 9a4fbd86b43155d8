package shard

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Progress is how far Prepare is.
type Progress struct {
	Hashing    bool  // the sources are read for the digest; otherwise, for the shards
	Bytes      int64 // of the sources, as they lie, that are done
	TotalBytes int64
	Documents  int64 // that this process has put into shards
	Tokens     int64
	Parts      int // that are done, whoever did them
	TotalParts int
}

// progressEvery is how often PrepareConfig.Progress is called.
const progressEvery = 200 * time.Millisecond

// meter gathers a Progress; several goroutines add to it.
type meter struct {
	hashing                  atomic.Bool
	done, total              atomic.Int64 // bytes of finished parts or hashes, and of all
	reading                  atomic.Int64 // bytes read of what is not finished
	documents, tokens        atomic.Int64
	partsDone, partsExpected atomic.Int64
}

func (m *meter) read(n int) { m.reading.Add(int64(n)) }

func (m *meter) document(tokens int) {
	m.documents.Add(1)
	m.tokens.Add(int64(tokens))
}

func (m *meter) begin(hashing bool, bytes int64, parts int) {
	m.hashing.Store(hashing)
	m.done.Store(0)
	m.reading.Store(0)
	m.total.Store(bytes)
	m.partsExpected.Store(int64(parts))
}

// finished says that a source or part of that size is done.
func (m *meter) finished(bytes int64) {
	m.reading.Store(0)
	m.done.Add(bytes)
}

func (m *meter) progress() Progress {
	total := m.total.Load()
	return Progress{Hashing: m.hashing.Load(), Bytes: min(m.done.Load()+m.reading.Load(), total), TotalBytes: total,
		Documents: m.documents.Load(), Tokens: m.tokens.Load(), Parts: int(m.partsDone.Load()), TotalParts: int(m.partsExpected.Load())}
}

// watch calls report again and again, from one goroutine, until stop is called, which does so a last time.
func (m *meter) watch(report func(Progress)) (stop func()) {
	if report == nil {
		return func() {}
	}
	end := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				report(m.progress())
				return
			case <-ticker.C:
				report(m.progress())
			}
		}
	})
	return func() {
		close(end)
		group.Wait()
	}
}

// meteredFile counts what is read of a source, and ends reading when ctx does.
type meteredFile struct {
	ctx context.Context
	sourceFile
	meter *meter
}

func (f meteredFile) Read(b []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := f.sourceFile.Read(b)
	f.meter.read(n)
	return n, err
}

func (f meteredFile) ReadAt(b []byte, at int64) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := f.sourceFile.ReadAt(b, at)
	f.meter.read(n)
	return n, err
}
