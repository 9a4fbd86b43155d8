package train

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/torch"
)

// groups are the process groups of a run. The loop and the feed use theirs at once, and collectives of one group start in the same order on every rank.
type groups struct {
	data ddp.Group // gradients
	sums ddp.Group // the loop's sums, on the host: metrics and evaluations. It is data where that is on the host, too
	host ddp.Group // the feed's: counts and flags
}

// localGroups are those of the only rank.
func localGroups() groups {
	data := ddp.NewLocal(1, nil)[0]
	return groups{data: data, sums: data, host: ddp.NewLocal(1, nil)[0]}
}

// formGroups meets the other ranks. The caller closes the result, after an error too.
func formGroups(job *Job) (g groups, err error) {
	if job.World == 1 {
		return localGroups(), nil
	}
	timeout := time.Duration(job.Config.DDPTimeoutSeconds) * time.Second
	gloo := func(name string) (ddp.Group, error) {
		group, err := ddp.NewGloo(prefixed{job.Store, name + "/"}, job.Rank, job.World, job.Host, timeout)
		return group, mark(ErrPeer, err)
	}
	if g.host, err = gloo("host"); err != nil {
		return g, err
	}
	if err := sameKind(job, g.host); err != nil {
		return g, err
	}
	if job.place.onGPU() {
		if err := job.compareGPUs(g.host); err != nil {
			return g, err
		}
	}
	if job.place.onGPU() || job.Config.Backend == "nccl" {
		if g.sums, err = gloo("sums"); err != nil {
			return g, err
		}
		config := ddp.NCCLConfig{Timeout: timeout, Dump: dumpFile(job)}
		if job.place.onGPU() {
			config.Device = job.place.gpu.Index
		}
		g.data, err = ddp.NewNCCL(prefixed{job.Store, "nccl/"}, job.Rank, job.World, config)
		return g, mark(ErrPeer, err)
	}
	if g.data, err = gloo("data"); err == nil && job.Config.Backend == "auto" && job.NodeCount < 2 { // all ranks are on this node
		if g.data, err = ddp.NewShared(g.data, prefixed{job.Store, "shared/"}, timeout); err != nil {
			err = mark(ErrPeer, fmt.Errorf("%w (backend: gloo does without shared memory)", err))
		}
	}
	g.sums = g.data
	return g, err
}

// sameKind refuses a run of which some ranks are on GPUs and some on CPUs.
func sameKind(job *Job, host ddp.Group) error {
	onGPUs := []float64{0}
	if job.place.onGPU() {
		onGPUs[0] = 1
	}
	if err := ddp.SumFloat64s(host, onGPUs); err != nil {
		return mark(ErrPeer, err)
	}
	if n := int(onGPUs[0]); n != 0 && n != job.World {
		return mark(ErrInput, fmt.Errorf("%d of %d ranks are on GPUs and the others on CPUs: rank %d takes %s, since %s; set device: cuda, or device: cpu, to see what the nodes lack",
			n, job.World, job.Rank, job.place.name(), job.place.why))
	}
	return nil
}

// each calls f for every group that there is, once.
func (g groups) each(f func(ddp.Group)) {
	for i, group := range []ddp.Group{g.data, g.sums, g.host} {
		if group != nil && !(i == 1 && group == g.data) {
			f(group)
		}
	}
}

// dumpFile is where a rank writes the record of its last collectives when one fails: an attempt's files lie together.
func dumpFile(job *Job) string {
	return filepath.Join(job.Config.OutputDir, ".ddprun", "collectives", fmt.Sprint("attempt_", job.Generation), fmt.Sprint("rank-", job.Rank, ".json"))
}

// prefixed is a store whose keys begin with prefix.
type prefixed struct {
	store  torch.Store
	prefix string
}

func (p prefixed) Set(key string, value []byte) error { return p.store.Set(p.prefix+key, value) }
func (p prefixed) Get(key string, timeout time.Duration) ([]byte, error) {
	return p.store.Get(p.prefix+key, timeout)
}
func (p prefixed) Add(key string, delta int64) (int64, error) {
	return p.store.Add(p.prefix+key, delta)
}
func (p prefixed) Delete(key string) (bool, error) { return p.store.Delete(p.prefix + key) }
func (p prefixed) Check(keys []string) (bool, error) {
	full := make([]string, len(keys))
	for i, k := range keys {
		full[i] = p.prefix + k
	}
	return p.store.Check(full)
}
