package launch

// maxBarren is how many failures without progress in between end a run for good.
const maxBarren = 3

// budget decides whether a failed run is started again. Progress is a newer checkpoint and nothing else: an attempt that
// trained but committed nothing will do the same work again.
type budget struct {
	maxRestarts int
	restarts    int
	barren      int   // failures since the last progress
	newest      int64 // step of the newest checkpoint known
}

// verdict is what a failed attempt leads to.
type verdict struct {
	restart bool
	code    int    // what to exit with if not
	reason  string // for people
}

// after decides after a failed attempt that found its newest checkpoint at step resumed (0: none) and left one at step
// checkpoint.
func (b *budget) after(f *Failure, resumed, checkpoint int64) verdict {
	if checkpoint > max(b.newest, resumed) {
		b.barren = 0
	}
	b.newest = max(b.newest, resumed, checkpoint)
	b.barren++
	switch {
	case f.ExitCode == ExitConfig:
		return verdict{code: ExitConfig, reason: "the configuration or input is wrong"}
	case f.Permanent:
		return verdict{code: ExitFailed, reason: "a restart would fail the same way"}
	case b.barren >= maxBarren:
		return verdict{code: ExitNoProgress, reason: "three failures without a newer checkpoint in between"}
	case b.restarts >= b.maxRestarts && b.maxRestarts == 0:
		return verdict{code: ExitFailed, reason: "restarts are off"}
	case b.restarts >= b.maxRestarts:
		return verdict{code: ExitFailed, reason: "the restarts are used up"}
	}
	b.restarts++
	return verdict{restart: true}
}
