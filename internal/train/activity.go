package train

import "sync/atomic"

// Activity is what a rank is doing at this moment. The loop and the feed set it, and any goroutine may read it; the zero value is ready.
type Activity struct {
	loop, feed atomic.Pointer[occupation]
	done       atomic.Uint64
}

// occupation is one thing that a rank does. waits says that it waits for other ranks, so that its standing still is not its own fault.
type occupation struct {
	what  string
	waits bool
}

// Occupations of a rank. The loop's awaitFeed is explained by the feed's own.
var (
	meet            = &occupation{"forming the process groups", true}
	awaitBeginning  = &occupation{"waiting for rank 0 to choose the start", true}
	agreeOnStop     = &occupation{"agreeing on whether to stop", true}
	prepareRank     = &occupation{"loading the model", false}
	awaitFeed       = &occupation{"waiting for the step's samples", false}
	forwardBackward = &occupation{"forward and backward", false}
	awaitGradients  = &occupation{"waiting for the sums of gradients", true}
	updateWeights   = &occupation{"updating the weights", false}
	awaitOwnGPU     = &occupation{"waiting for the GPU", false}
	awaitGPUs       = &occupation{"waiting for the GPU, or by it for other ranks", true}
	sumMetrics      = &occupation{"summing metrics over ranks", true}
	evaluateBatches = &occupation{"evaluating", false}
	gatherEval      = &occupation{"gathering the evaluation", true}
	saveCheckpoint  = &occupation{"saving", false}
	awaitEnd        = &occupation{"waiting for the other ranks' end", true}

	awaitDebug = &occupation{"waiting for a debugger", false}

	prepareText  = &occupation{"preparing the text", false}
	awaitPrepare = &occupation{"waiting for another process that prepares the text", true}

	readSamples = &occupation{"reading samples", false}
	sumCounts   = &occupation{"summing the step's counts over ranks", true}
)

// awaitGPU is what a rank does that waits for what its GPU was given.
func (job *Job) awaitGPU() *occupation {
	if job.World > 1 {
		return awaitGPUs
	}
	return awaitOwnGPU
}

// set says what the loop does from now on. A nil Activity hears nothing.
func (a *Activity) set(o *occupation) {
	if a != nil {
		a.loop.Store(o)
	}
}

// setFeed says what the feed does from now on.
func (a *Activity) setFeed(o *occupation) {
	if a != nil {
		a.feed.Store(o)
	}
}

// Prepare says that the text is being prepared, before the run, by this process or by another one that it waits for.
func (a *Activity) Prepare(byAnother bool) {
	if byAnother {
		a.set(awaitPrepare)
	} else {
		a.set(prepareText)
	}
}

// AwaitDebugger says that a debugger is waited for.
func (a *Activity) AwaitDebugger() { a.set(awaitDebug) }

// Tick counts a piece of work as done: a micro-batch, a part of the text.
func (a *Activity) Tick() {
	if a != nil {
		a.done.Add(1)
	}
}

// Now returns what the rank does, empty before it has begun; whether it waits for other ranks in that; and how many pieces of work are done.
func (a *Activity) Now() (doing string, waiting bool, done uint64) {
	o := a.loop.Load()
	if feed := a.feed.Load(); o == awaitFeed && feed != nil {
		o = &occupation{awaitFeed.what + ": " + feed.what, feed.waits}
	}
	if o == nil {
		o = &occupation{}
	}
	return o.what, o.waits, a.done.Load()
}
