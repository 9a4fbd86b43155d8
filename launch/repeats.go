package launch

import (
	"bytes"
	"fmt"
	"time"
)

const (
	repeatsEvery  = 10 * time.Second // a line that does not stop coming is counted on the screen so often
	longestRepeat = 2 << 10          // bytes; longer lines are not compared
)

// repeats holds back lines that are the same as the one before, and says how many they were.
type repeats struct {
	last  []byte
	count int       // held back
	since time.Time // when the first of them came
}

// line passes a line on to show, or holds it back.
func (r *repeats) line(line []byte, show func([]byte)) {
	if r.last != nil && bytes.Equal(line, r.last) && len(line) <= longestRepeat {
		if r.count++; r.count == 1 {
			r.since = time.Now()
		}
		return
	}
	r.flush(show)
	r.last = append(r.last[:0], line...)
	if r.last == nil {
		r.last = []byte{} // an empty line is a line
	}
	show(line)
}

// flush shows what was held back: once as it is, more often as their number.
func (r *repeats) flush(show func([]byte)) {
	switch {
	case r.count == 1:
		show(r.last)
	case r.count > 1:
		show(fmt.Appendf(nil, "(last line repeated %d times)", r.count))
	}
	r.count = 0
}

// pending says whether lines are held back.
func (r *repeats) pending() bool { return r.count > 0 }

// due says whether they were held back for long enough.
func (r *repeats) due() bool { return r.count > 0 && time.Since(r.since) >= repeatsEvery }
