package launch

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	reportEvery     = 10 * time.Second // Kubeflow asks for 5 s at least
	reportWithin    = 5 * time.Second  // bounds one report, and so what the last one can add to a run's end
	complainEvery   = 10 * time.Minute // of reports that are not taken
	maxReported     = 256              // metrics of a report, and
	maxReportedText = 64               // bytes of a name or value: what the API of TrainJob allows
)

// TrainJob says where Kubeflow's Trainer is told how far a run is (its KEP-2779). The files are read for each report, since the cluster renews
// them. The zero value: nobody is told.
type TrainJob struct {
	URL       string // of the TrainJob's status; https
	CAFile    string // PEM, of who has signed the server's certificate; empty: the system's authorities
	TokenFile string // of the pod's service account
}

// TrainJobOf is what Kubeflow's Trainer has told a pod by its environment. DISABLE_KUBEFLOW_INTEGRATION=TRUE, which transformers heeds, turns
// reports off here too.
func TrainJobOf(getenv func(string) string) TrainJob {
	if strings.EqualFold(getenv("DISABLE_KUBEFLOW_INTEGRATION"), "true") {
		return TrainJob{}
	}
	return TrainJob{URL: getenv("KUBEFLOW_TRAINER_SERVER_URL"), CAFile: getenv("KUBEFLOW_TRAINER_SERVER_CA_CERT"), TokenFile: getenv("KUBEFLOW_TRAINER_SERVER_TOKEN")}
}

// trainerReport is UpdateTrainJobStatusRequest of trainer.kubeflow.org/v1alpha1.
type trainerReport struct {
	Status trainerStatus `json:"trainerStatus"`
}

// trainerStatus is its TrainerStatus. What is not known is left out.
type trainerStatus struct {
	Percentage       *int32          `json:"progressPercentage,omitempty"`
	RemainingSeconds *int32          `json:"estimatedRemainingSeconds,omitempty"`
	Metrics          []trainerMetric `json:"metrics,omitempty"`
	Updated          time.Time       `json:"lastUpdatedTime"`
}

type trainerMetric struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// reporter tells the Trainer how far the run is while this node has rank 0.
type reporter struct {
	to       TrainJob
	status   func() Status
	complain func(error)
	cancel   context.CancelFunc
	ended    chan struct{}

	// Of the goroutine, and after its end of close.
	pace       pace
	told       trainerStatus // the last one that was taken, without its time
	complained time.Time
}

// reportTo begins to report every so often; nil: nobody is to be told. It holds up nothing but close.
func reportTo(to TrainJob, every time.Duration, status func() Status, complain func(error)) *reporter {
	if to.URL == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &reporter{to: to, status: status, complain: complain, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				p.report(ctx, false)
			}
		}
	}()
	return p
}

// close ends the reports. That of a run that is done says so.
func (p *reporter) close(done bool) {
	if p == nil {
		return
	}
	p.cancel()
	<-p.ended
	if done {
		p.report(context.Background(), true)
	}
}

// report tells what is new, if this node has rank 0. While a run goes on, a rank 0 that is gone has nothing to tell.
func (p *reporter) report(ctx context.Context, done bool) {
	s := p.status()
	i := slices.IndexFunc(s.Ranks, func(r RankStatus) bool { return r.Rank == 0 && (r.Up || done) })
	if i < 0 {
		return
	}
	now := time.Now()
	next, known := trainerStatusOf(s, s.Ranks[i].Step, &p.pace, now)
	if done {
		next.Percentage, next.RemainingSeconds = new(int32), new(int32)
		*next.Percentage = 100
	} else if !known || next.same(p.told) {
		return
	}
	next.Updated = now.UTC().Truncate(time.Second)
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	switch err := p.to.post(ctx, trainerReport{next}); {
	case err == nil:
		p.told, p.complained = next, time.Time{}
	case errors.Is(err, context.Canceled): // the run ends
	case p.complained.IsZero() || now.Sub(p.complained) >= complainEvery:
		p.complained = now
		p.complain(err)
	}
}

// same tells whether two reports say the same of the run, whenever.
func (s trainerStatus) same(other trainerStatus) bool {
	return slices.Equal(s.Metrics, other.Metrics) && s.Percentage != nil && other.Percentage != nil && *s.Percentage == *other.Percentage
}

// trainerStatusOf makes a report of a run whose rank 0 has finished step. known is false before rank 0 has said how long the run is. 100 is
// left for the end: until then the last checkpoint is not written.
func trainerStatusOf(s Status, step int64, p *pace, now time.Time) (status trainerStatus, known bool) {
	total, known := s.Value("total_steps")
	if logged, ok := s.Value("step"); ok { // of a rank that has just resumed, the first to be known
		step = max(step, int64(logged))
	}
	if known = known && total > 0; known {
		percentage := int32(min(99, 100*float64(step)/total))
		status.Percentage = &percentage
		if left, ok := p.left(s.Generation, step, int64(total), now); ok {
			status.RemainingSeconds = &left
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Metrics)) {
		value := strconv.FormatFloat(s.Metrics[name], 'g', -1, 64)
		if name == "step" { // as of now; rank 0 has told it with its last log line
			value = strconv.FormatInt(step, 10)
		}
		if name != "" && len(name) <= maxReportedText && len(status.Metrics) < maxReported {
			status.Metrics = append(status.Metrics, trainerMetric{name, value})
		}
	}
	return status, known
}

// pace is how fast a generation has trained: since its first step that was seen, with evaluations and checkpoints.
type pace struct {
	generation int
	step       int64
	at         time.Time // zero: no step was seen
}

// left estimates the seconds to the last step.
func (p *pace) left(generation int, step, total int64, now time.Time) (int32, bool) {
	if p.at.IsZero() || generation != p.generation || step < p.step {
		*p = pace{generation, step, now}
	}
	if step == p.step {
		return 0, false
	}
	seconds := now.Sub(p.at).Seconds() / float64(step-p.step) * float64(max(0, total-step))
	return int32(min(math.Ceil(seconds), math.MaxInt32)), true
}

// post sends a report. The token goes nowhere but to the URL: not in the clear, and not where the server points on to.
func (t TrainJob) post(ctx context.Context, report trainerReport) error {
	if !strings.HasPrefix(t.URL, "https://") {
		return fmt.Errorf("launch: KUBEFLOW_TRAINER_SERVER_URL is %q; want https://..., since a token is sent there", t.URL)
	}
	token, err := os.ReadFile(t.TokenFile)
	if err != nil {
		return fmt.Errorf("launch: KUBEFLOW_TRAINER_SERVER_TOKEN: %w", err)
	}
	body, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("launch: report to %s: %w", t.URL, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("launch: KUBEFLOW_TRAINER_SERVER_URL: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client, err := t.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("launch: report of progress: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(response.Body, 300)) // what there is of it
		return fmt.Errorf("launch: report of progress: %s answers %s: %q", t.URL, response.Status, why)
	}
	return nil
}

// client is one for a single report.
func (t TrainJob) client() (*http.Client, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("launch: KUBEFLOW_TRAINER_SERVER_CA_CERT: %w", err)
		}
		if trust.RootCAs = x509.NewCertPool(); !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("launch: KUBEFLOW_TRAINER_SERVER_CA_CERT: %s holds no certificate in PEM", t.CAFile)
		}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}, // no proxy: the server is in the cluster
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}
