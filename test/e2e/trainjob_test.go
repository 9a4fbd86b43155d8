package e2e

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
)

// TestTrainJob: what Kubeflow's Trainer is told at the end is the run's, by the names in metrics.jsonl. Package launch tests the rest.
func TestTrainJob(t *testing.T) {
	var mu sync.Mutex
	var last struct {
		TrainerStatus struct {
			ProgressPercentage, EstimatedRemainingSeconds *int
			Metrics                                       []struct{ Name, Value string }
			LastUpdatedTime                               string
		}
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&last); err != nil || r.Header.Get("Authorization") != "Bearer a-token" {
			t.Errorf("%v, %q", err, r.Header)
		}
	}))
	defer server.Close()
	w := newWorkspace(t, 100)
	w.config("train.yaml", nil)
	w.write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	w.write("token", "a-token")
	w.env = append(w.env, "KUBEFLOW_TRAINER_SERVER_URL="+server.URL+"/status", "KUBEFLOW_TRAINER_SERVER_CA_CERT="+w.path("ca.crt"),
		"KUBEFLOW_TRAINER_SERVER_TOKEN="+w.path("token"))
	w.run("--nproc", "2", "train.yaml").want(t, 0)
	mu.Lock()
	defer mu.Unlock()
	status := last.TrainerStatus
	if status.ProgressPercentage == nil || *status.ProgressPercentage != 100 || status.EstimatedRemainingSeconds == nil || *status.EstimatedRemainingSeconds != 0 {
		t.Errorf("%+v", status)
	}
	told := map[string]float64{}
	for _, m := range status.Metrics {
		value, err := strconv.ParseFloat(m.Value, 64)
		if err != nil {
			t.Error(err)
		}
		told[m.Name] = value
	}
	end := w.steps("out", 20)[19]
	if told["loss"] != *end.Loss || told["step"] != float64(end.Step) || told["total_steps"] != 20 {
		t.Errorf("told %v; the last step has loss %v", told, *end.Loss)
	}
}
