package launch

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// describe makes a metric's name and help.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ddprun_"+name, help, labels, nil)
}

// The metrics of the agent.
var (
	generationDesc = describe("generation", "Number of the generation of workers.")
	restartsDesc   = describe("restarts", "Starts of the workers in this run after the first.")
	worldDesc      = describe("world_size", "Ranks of the run.")
	upDesc         = describe("ranks_up", "Ranks of this node that run.")
	checkpointDesc = describe("checkpoint_step", "Step of the newest complete checkpoint, as far as this node's ranks know.")
	slowDesc       = describe("slow_rank", "1 for the rank that is named as slow.", "rank")
	rankUpDesc     = describe("rank_up", "Whether the rank's process runs.", "rank", "host")
	rankStepDesc   = describe("rank_step", "Optimizer steps that the rank has finished.", "rank", "host")
	beatDesc       = describe("rank_seconds_since_beat", "Since the rank's last sign of life.", "rank", "host")
	movedDesc      = describe("rank_seconds_since_progress", "Since the rank last finished a piece of work.", "rank", "host")
	waitingDesc    = describe("rank_waiting", "Whether the rank waits for other ranks at this moment.", "rank", "host")
)

// trainingMetrics are those of the training: names in metrics.jsonl, and what they are here. The node with rank 0 has them.
var trainingMetrics = []struct {
	name string
	desc *prometheus.Desc
}{
	{"step", describe("step", "Optimizer steps that are done, as logged last.")},
	{"total_steps", describe("total_steps", "Steps of the whole run.")},
	{"epoch", describe("epoch", "Position in epochs.")},
	{"loss", describe("loss", "Training loss since the log line before.")},
	{"eval_loss", describe("eval_loss", "Loss of the newest evaluation.")},
	{"learning_rate", describe("learning_rate", "Learning rate of the last step.")},
	{"grad_norm", describe("grad_norm", "Norm of the gradient of the last step, before clipping.")},
	{"tokens_per_second", describe("tokens_per_second", "Tokens a second over all ranks, since the log line before.")},
	{"seconds_per_step", describe("seconds_per_step", "Time of a step, since the log line before.")},
	{"num_input_tokens_seen", describe("tokens_seen_total", "Tokens since the run's first start.")},
	{"communication_wait_share", describe("communication_wait_share", "Mean share of the time that ranks wait for gradients.")},
	{"data_wait_share", describe("data_wait_share", "Mean share of the time that ranks wait for samples.")},
	{"least_wait_share", describe("least_wait_share", "Share of the time that the slowest rank waits for others.")},
	{"most_wait_share", describe("most_wait_share", "Share of the time that the rank waits that waits most.")},
	{"slowest_rank", describe("slowest_rank", "The rank that waits least for others, be that little or much.")},
}

// collector makes Prometheus' metrics of a status whenever somebody asks.
type collector struct{ status func() Status }

// Describe is prometheus.Collector's: what there is depends on the run.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect is prometheus.Collector's.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.status()
	gauge := func(d *prometheus.Desc, x float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, x, labels...)
	}
	gauge(generationDesc, float64(s.Generation))
	gauge(restartsDesc, float64(s.Restarts))
	gauge(worldDesc, float64(s.World))
	gauge(upDesc, float64(s.Up()))
	gauge(checkpointDesc, float64(s.Checkpoint()))
	for _, m := range trainingMetrics {
		if x, ok := s.Metrics[m.name]; ok {
			gauge(m.desc, x)
		}
	}
	if slow := s.Slow(); slow >= 0 {
		gauge(slowDesc, 1, strconv.Itoa(slow))
	}
	for _, r := range s.Ranks {
		rank := strconv.Itoa(r.Rank)
		gauge(rankUpDesc, oneIf(r.Up), rank, r.Host)
		gauge(rankStepDesc, float64(r.Step), rank, r.Host)
		gauge(waitingDesc, oneIf(r.Waiting), rank, r.Host)
		if r.Up && r.BeatSeconds >= 0 {
			gauge(beatDesc, r.BeatSeconds, rank, r.Host)
		}
		if r.Up && r.MovedSeconds >= 0 {
			gauge(movedDesc, r.MovedSeconds, rank, r.Host)
		}
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// metricsServer serves Prometheus at /metrics.
type metricsServer struct {
	server *http.Server
	addr   net.Addr
	ended  chan struct{}
}

// serveMetrics serves what status tells on addr, until close.
func serveMetrics(addr string, status func() Status) (*metricsServer, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("launch: metrics address %s: %w", addr, err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{status})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 8}))
	m := &metricsServer{addr: listener.Addr(), ended: make(chan struct{}),
		server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}}
	go func() {
		defer close(m.ended)
		m.server.Serve(listener) // until close
	}()
	return m, nil
}

func (m *metricsServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if m.server.Shutdown(ctx) != nil {
		m.server.Close()
	}
	<-m.ended
}

// openWindows opens what lets others look at the run, until close is called: the status socket, without which the run goes on, and the metrics.
func (r *run) openWindows() (closeAll func(), err error) {
	status, err := serveStatus(r.OutputDir, r.RunID, func() any { return r.wholeStatus() })
	if err != nil {
		r.Logger.Warn().Err(err).Msg("ddprun status will not find this run")
	}
	closeStatus := func() {
		if status != nil {
			status.close()
		}
	}
	if r.MetricsAddr == "" {
		return closeStatus, nil
	}
	metrics, err := serveMetrics(r.MetricsAddr, r.status)
	if err != nil {
		closeStatus()
		return nil, err
	}
	r.Logger.Info().Str("address", "http://"+metrics.addr.String()+"/metrics").Msg("metrics for Prometheus")
	return func() {
		metrics.close()
		closeStatus()
	}, nil
}
