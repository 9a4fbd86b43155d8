package launch

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/ddprun/ddprun/launch/agree"
	"github.com/ddprun/ddprun/launch/pipe"
)

// stores is the key-value store in which the ranks of a generation meet. It lies in the coordinator's agent; other agents
// ask that for their workers.
type stores struct {
	local *pipe.MemStore

	mu         sync.Mutex
	generation int // whose keys local serves to other nodes; earlier ones are gone
}

// begin makes room for a generation: what earlier ones have left goes.
func (s *stores) begin(generation int) {
	s.mu.Lock()
	before := s.generation
	s.generation = generation
	s.mu.Unlock()
	if before != generation {
		s.local.Drop(generationPrefix(before))
	}
}

// serves says whether a generation is the one that runs.
func (s *stores) serves(generation int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation == generation
}

// generationPrefix is a generation's part of a store.
func generationPrefix(generation int) string { return "generation-" + strconv.Itoa(generation) + "/" }

// storeOf returns the store for this node's workers of a generation.
func (r *run) storeOf(record agree.Record) pipe.Backend {
	if record.Coordinator == r.self.ID {
		return pipe.Prefix(r.stores.local, generationPrefix(record.Number))
	}
	return pipe.Remote(func(ctx context.Context, q pipe.Request) (pipe.Reply, error) {
		return r.askStore(ctx, record, q)
	})
}

// storeCall is a question to the coordinator's store.
type storeCall struct {
	Generation int          `json:"generation"`
	Request    pipe.Request `json:"request"`
}

// storeAnswerTime is how long an answer may take beyond the time that the request itself may.
const storeAnswerTime = 20 * time.Second

// askStore asks the coordinator's store. The time-out of what waits is the other side's, so that its answer tells a key that was not set from a
// node that is gone.
func (r *run) askStore(ctx context.Context, record agree.Record, q pipe.Request) (pipe.Reply, error) {
	wait := time.Duration(0)
	if end, ok := ctx.Deadline(); ok {
		wait = max(0, time.Until(end))
		q.TimeoutMS = wait.Milliseconds()
	}
	calling, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait+storeAnswerTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if ctx.Err() == context.Canceled { // the worker is gone
			cancel()
		}
	})()
	var reply pipe.Reply
	err := r.peers.call(calling, record.Coordinator, callStore, storeCall{record.Number, q}, &reply)
	if err != nil {
		err = fmt.Errorf("store: the coordinator's node does not answer: %w", err)
	}
	return reply, err
}

// answer serves another node's workers.
func (s *stores) answer(ctx context.Context, data json.RawMessage) (any, error) {
	var call storeCall
	if err := json.Unmarshal(data, &call); err != nil {
		return nil, err
	}
	if !s.serves(call.Generation) {
		return nil, fmt.Errorf("generation %d does not run here", call.Generation)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(call.Request.TimeoutMS)*time.Millisecond)
	defer cancel()
	return pipe.Answer(ctx, pipe.Prefix(s.local, generationPrefix(call.Generation)), call.Request), nil
}
