package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddprun/ddprun/k8s"
	"github.com/ddprun/ddprun/launch"
	"github.com/ddprun/ddprun/slurm"
)

// exitCodeRows reads the table of exit codes in a document: a row's cells by its code.
func exitCodeRows(t *testing.T, path string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	_, table, found := strings.Cut(string(text), "\n| exit code")
	if !found {
		t.Fatalf("%s has no table of exit codes", path)
	}
	for line := range strings.Lines(table) {
		if line == "\n" {
			break
		}
		cells := strings.Split(strings.Trim(line, "|\n "), "|")
		for code := range strings.SplitSeq(cells[0], ",") {
			if code = strings.TrimSpace(code); regexp.MustCompile(`^\d`).MatchString(code) {
				rows[code] = cells[1:]
			}
		}
	}
	return rows
}

// TestExitCodesInDocuments: the tables tell all codes, and of each what Kubernetes and Slurm are told to do.
func TestExitCodesInDocuments(t *testing.T) {
	job := slurm.Job{Name: "run", MinNodes: 1, MaxNodes: 1, NProc: 1, Directory: "/", Program: []string{"ddprun"}, Config: "/train.yaml", OutputDir: "/out", Log: "/log", SaveBefore: time.Minute, RejoinTimeout: time.Minute}
	script, err := job.Script()
	if err != nil {
		t.Fatal(err)
	}
	ends := regexp.MustCompile(`(?s)case \$code in\n\s*([\d |]+)\).*?exit "\$code"`).FindStringSubmatch(script)
	if ends == nil {
		t.Fatal("the script has no list of codes that end the job")
	}
	ending := strings.Split(ends[1], " | ")
	signal := fmt.Sprintf("%d+n", launch.ExitSignal)
	codes := []string{signal}
	for _, code := range []int{launch.ExitDone, launch.ExitFailed, 2, launch.ExitComeAgain, launch.ExitConfig, launch.ExitNoProgress} {
		codes = append(codes, fmt.Sprint(code))
	}
	wantOf := func(code string) (kubernetes, slurm string) {
		switch {
		case code == fmt.Sprint(launch.ExitDone):
			kubernetes = "complete"
		case slices.ContainsFunc(k8s.FinalExitCodes(), func(final int32) bool { return fmt.Sprint(final) == code }):
			kubernetes = "fails at once"
		default:
			kubernetes = "counts; a new pod"
		}
		switch {
		case slices.Contains(ending, code):
			slurm = "ends"
		case code == fmt.Sprint(launch.ExitComeAgain):
			slurm = "queue"
		default:
			slurm = "starts "
		}
		return kubernetes, slurm
	}
	for path, columns := range map[string]struct{ kubernetes, slurm int }{"../../README.md": {1, 2}, "../../docs/kubernetes.md": {1, -1}, "../../docs/slurm.md": {-1, 1}} {
		rows := exitCodeRows(t, path)
		for _, code := range codes {
			cells, kubernetes, slurm := rows[code], "", ""
			if kubernetes, slurm = wantOf(code); len(cells) <= max(columns.kubernetes, columns.slurm) {
				t.Errorf("%s: the row of %s is %q", path, code, cells)
				continue
			}
			for column, want := range map[int]string{columns.kubernetes: kubernetes, columns.slurm: slurm} {
				if column >= 0 && !strings.HasPrefix(strings.TrimSpace(cells[column]), want) {
					t.Errorf("%s: exit code %s: %q, want %q", path, code, cells[column], want)
				}
			}
		}
		if len(rows) != len(codes) {
			t.Errorf("%s tells %d exit codes, want %d", path, len(rows), len(codes))
		}
	}
}
