package launch

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ddprun/ddprun/launch/pipe"
)

// trainer stands for the status server of Kubeflow's Trainer, with the checks of trainer.kubeflow.org/v1alpha1 and of strict decoding.
type trainer struct {
	*httptest.Server
	t  *testing.T
	to TrainJob

	mu    sync.Mutex
	token string
	code  int // what is answered; 0: what is right
	took  []told
}

// told is UpdateTrainJobStatusRequest.
type told struct {
	TrainerStatus *struct {
		ProgressPercentage        *int32
		EstimatedRemainingSeconds *int32
		Metrics                   []struct{ Name, Value string }
		LastUpdatedTime           string
	} `json:"trainerStatus"`
}

const trainerPath = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs/run/status"

func newTrainer(t *testing.T) *trainer {
	t.Helper()
	s := &trainer{t: t, token: "a-token"}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.take))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // who does not trust it, says so
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	s.to = TrainJob{URL: s.URL + trainerPath, CAFile: filepath.Join(dir, "ca.crt"), TokenFile: filepath.Join(dir, "token")}
	s.file(s.to.CAFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	s.file(s.to.TokenFile, s.token+"\n")
	return s
}

func (s *trainer) file(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *trainer) take(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.code != 0 {
		http.Error(w, "no\x1b[2J", s.code)
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != trainerPath || r.Header.Get("Content-Type") != "application/json" {
		s.t.Errorf("%s %s of %s", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	if r.Header.Get("Authorization") != "Bearer "+s.token {
		http.Error(w, "Forbidden", http.StatusForbidden)
		return
	}
	var report told
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&report); err != nil || report.TrainerStatus == nil {
		s.t.Errorf("the report: %v", err)
		http.Error(w, "Invalid payload", http.StatusUnprocessableEntity)
		return
	}
	status := report.TrainerStatus
	within := func(n *int32, most int32) bool { return n == nil || 0 <= *n && *n <= most }
	if _, err := time.Parse("2006-01-02T15:04:05Z", status.LastUpdatedTime); err != nil || len(status.Metrics) > 256 ||
		!within(status.ProgressPercentage, 100) || !within(status.EstimatedRemainingSeconds, 1<<30) {
		s.t.Errorf("the API would refuse %+v: %v", status, err)
	}
	for _, m := range status.Metrics {
		if m.Name == "" || len(m.Name) > 64 || m.Value == "" || len(m.Value) > 64 {
			s.t.Errorf("the API would refuse the metric %+v", m)
		}
	}
	s.took = append(s.took, report)
}

// reports are those that were taken so far, as PERCENTAGE with the value of a metric.
func (s *trainer) reports(metric string) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.took {
		value := ""
		for _, m := range r.TrainerStatus.Metrics {
			if m.Name == metric {
				value = m.Value
			}
		}
		all = append(all, fmt.Sprintf("%d %s", *r.TrainerStatus.ProgressPercentage, value))
	}
	return all
}

// set changes what the server wants.
func (s *trainer) set(token string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token, s.code = token, code
}

// TestTrainJobOfARun: the agent with rank 0, and no other, says that the run is done.
func TestTrainJobOfARun(t *testing.T) {
	s := newTrainer(t)
	f := newFleet(t, scripts{{"metrics step 7 total_steps 10 loss 3.5; progress train 10 10; done"}}, 2, 2, 2)
	f.config.TrainJob = s.to
	f.startAll(2)
	f.codes(0, 0)
	if got := s.reports("loss"); !slices.Equal(got, []string{"100 3.5"}) {
		t.Errorf("reports %q", got)
	}
	if left := s.took[0].TrainerStatus.EstimatedRemainingSeconds; left == nil || *left != 0 {
		t.Errorf("%v seconds are left", left)
	}
}

// TestTrainJobOfARunThatFails: nothing is said to be done, and a server that takes nothing changes no outcome.
func TestTrainJobOfARunThatFails(t *testing.T) {
	s := newTrainer(t)
	outcome, _, _ := runScripts(t, agentConfig{NProc: 1, Scripts: scripts{{"metrics step 7 total_steps 10; exit 1"}}, TrainJob: s.to}, nil)
	if got := s.reports("loss"); outcome.Code != ExitFailed || len(got) != 0 {
		t.Errorf("%+v, reports %q", outcome, got)
	}
	s.set("", http.StatusInternalServerError)
	outcome, _, _ = runScripts(t, agentConfig{NProc: 1, Scripts: scripts{{"metrics step 7 total_steps 10; done"}}, TrainJob: s.to}, nil)
	if got := s.reports("loss"); outcome.Code != ExitDone || len(got) != 0 {
		t.Errorf("%+v, reports %q", outcome, got)
	}
}

// TestTrainJobServerThatHangs does not hold up the end of a run for long.
func TestTrainJobServerThatHangs(t *testing.T) {
	onlyInLongTests(t)
	s := newTrainer(t)
	hangs := make(chan struct{})
	defer close(hangs)
	s.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs })
	outcome, _, _ := runScripts(t, agentConfig{NProc: 1, Scripts: scripts{{"metrics step 7 total_steps 10; done"}}, TrainJob: s.to}, nil)
	if outcome.Code != ExitDone {
		t.Errorf("%+v", outcome)
	}
}

// stage is a status that a test changes.
type stage struct {
	sync.Mutex
	Status
}

func (s *stage) get() Status {
	s.Lock()
	defer s.Unlock()
	return s.Status
}

// at sets rank 0's step, and what it has logged.
func (s *stage) at(step int64, up bool, metrics pipe.Metrics) {
	s.Lock()
	defer s.Unlock()
	s.Ranks, s.Metrics = []RankStatus{{Rank: 0, Step: step, Up: up}, {Rank: 1, Up: true}}, metrics
}

// TestTrainJobReports follows a run from its start, through a server that refuses for a while and a token that is renewed.
func TestTrainJobReports(t *testing.T) {
	s := newTrainer(t)
	var run stage
	complaints := make(chan error, 100)
	p := reportTo(s.to, time.Millisecond, run.get, func(err error) { complaints <- err })
	took := func(want ...string) {
		t.Helper()
		waitFor(t, 20*time.Second, fmt.Sprintf("reports %q", want), func() bool { return slices.Equal(s.reports("step"), want) },
			func() string { return fmt.Sprintf("%q", s.reports("step")) })
	}
	run.at(0, true, nil) // how long the run is, is not known yet
	run.at(0, true, pipe.Metrics{"step": 40, "total_steps": 200})
	took("20 40")
	run.at(50, true, pipe.Metrics{"step": 40, "total_steps": 200, "loss": 0.1, strings.Repeat("x", 65): 1})
	took("20 40", "25 50")
	status := s.took[1].TrainerStatus
	if left := status.EstimatedRemainingSeconds; left == nil || *left < 1 || len(status.Metrics) != 3 || status.Metrics[0].Value != "0.1" {
		t.Errorf("%+v", status)
	}
	s.set("a-token", http.StatusServiceUnavailable)
	run.at(60, true, pipe.Metrics{"total_steps": 200})
	if err := <-complaints; !strings.Contains(err.Error(), `503 Service Unavailable: "no\x1b[2J`) {
		t.Error(err)
	}
	s.set("renewed", 0)
	s.file(s.to.TokenFile, "renewed")
	took("20 40", "25 50", "30 ")
	run.at(70, false, pipe.Metrics{"total_steps": 200}) // rank 0 is gone
	time.Sleep(20 * time.Millisecond)
	run.at(80, true, pipe.Metrics{"total_steps": 200})
	took("20 40", "25 50", "30 ", "40 ")
	run.at(200, true, pipe.Metrics{"total_steps": 200, "step": 200}) // trained, but not saved
	took("20 40", "25 50", "30 ", "40 ", "99 200")
	run.at(200, false, pipe.Metrics{"total_steps": 200, "step": 200})
	p.close(true)
	took("20 40", "25 50", "30 ", "40 ", "99 200", "100 200")
	if len(complaints) > 0 {
		t.Errorf("%d more complaints, the first is %v", len(complaints), <-complaints)
	}
}

// TestTrainJobRefusals: what is wrong is named, and the token is sent to nobody else.
func TestTrainJobRefusals(t *testing.T) {
	s := newTrainer(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked elsewhere, with %q", r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	redirect := httptest.NewUnstartedServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	redirect.TLS = s.TLS.Clone()
	redirect.StartTLS()
	defer redirect.Close()
	s.file(filepath.Join(filepath.Dir(s.to.CAFile), "text"), "no certificate")
	for name, c := range map[string]struct {
		change func(to *TrainJob)
		want   string
	}{
		"in the clear":       {func(to *TrainJob) { to.URL = elsewhere.URL }, "want https://"},
		"no token":           {func(to *TrainJob) { to.TokenFile = "" }, "KUBEFLOW_TRAINER_SERVER_TOKEN"},
		"another token":      {func(to *TrainJob) { to.TokenFile = filepath.Join(filepath.Dir(to.CAFile), "text") }, "403 Forbidden"},
		"no authority":       {func(to *TrainJob) { to.CAFile += "x" }, "KUBEFLOW_TRAINER_SERVER_CA_CERT"},
		"not an authority":   {func(to *TrainJob) { to.CAFile = filepath.Join(filepath.Dir(to.CAFile), "text") }, "holds no certificate"},
		"the system's":       {func(to *TrainJob) { to.CAFile = "" }, "certificate signed by unknown authority"},
		"points elsewhere":   {func(to *TrainJob) { to.URL = redirect.URL }, "307 Temporary Redirect"},
		"no server":          {func(to *TrainJob) { to.URL = "https://127.0.0.1:1" }, "connection refused"},
		"not even an origin": {func(to *TrainJob) { to.URL = "https://a b" }, "KUBEFLOW_TRAINER_SERVER_URL"},
	} {
		to := s.to
		c.change(&to)
		if err := to.post(t.Context(), trainerReport{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if n := len(s.took); n > 0 {
		t.Errorf("%d reports were taken", n)
	}
}

// TestTrainJobComplaintsAreFew: one in a row of reports that are not taken, and none of a run that ends.
func TestTrainJobComplaintsAreFew(t *testing.T) {
	s := newTrainer(t)
	s.set("", http.StatusForbidden)
	var run stage
	var complaints []error
	p := &reporter{to: s.to, status: run.get, complain: func(err error) { complaints = append(complaints, err) }}
	for step := range int64(5) {
		run.at(step, true, pipe.Metrics{"total_steps": 5})
		p.report(t.Context(), false)
	}
	if len(complaints) != 1 {
		t.Errorf("%v", errors.Join(complaints...))
	}
	p.complained = p.complained.Add(-complainEvery)
	run.at(4, true, pipe.Metrics{"total_steps": 50})
	if p.report(t.Context(), false); len(complaints) != 2 {
		t.Errorf("long after: %v", errors.Join(complaints...))
	}
}

func TestTrainJobOf(t *testing.T) {
	vars := map[string]string{"KUBEFLOW_TRAINER_SERVER_URL": "https://s", "KUBEFLOW_TRAINER_SERVER_CA_CERT": "/ca.crt", "KUBEFLOW_TRAINER_SERVER_TOKEN": "/token"}
	getenv := func(name string) string { return vars[name] }
	if to := TrainJobOf(getenv); to != (TrainJob{"https://s", "/ca.crt", "/token"}) {
		t.Errorf("%+v", to)
	}
	vars["DISABLE_KUBEFLOW_INTEGRATION"] = "TRUE"
	if to := TrainJobOf(getenv); to != (TrainJob{}) {
		t.Errorf("%+v", to)
	}
	reportTo(TrainJob{}, time.Millisecond, func() Status { panic("asked") }, nil).close(true)
}
