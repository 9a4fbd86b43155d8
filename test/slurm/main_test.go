package slurm

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ddprun/ddprun/launch/where"
)

const nodes = 3

// long tells whether the long tier of the tests is asked for.
var long = os.Getenv("DDPRUN_TEST_ALL") == "1"

// cluster is the one that all tests share; without one they skip, for the reason missing.
var (
	cluster string
	missing string
)

// answerWhere is the variable with which this program, started as a task, says where it is instead of testing.
const answerWhere = "DDPRUN_TEST_WHERE"

func TestMain(m *testing.M) {
	if host := os.Getenv(answerWhere); host != "" {
		os.Exit(sayWhere(host))
	}
	os.Exit(testAll(m))
}

func testAll(m *testing.M) int {
	missing = lacks()
	if missing == "" {
		dir, err := os.MkdirTemp("", "ddprun-slurm-") // short: munge's socket lies in it
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		cluster = filepath.Join(dir, "c")
		defer exec.Command("bash", "cluster.sh", "down", cluster).Run()
		if out, err := exec.Command("bash", "cluster.sh", "up", cluster, fmt.Sprint(nodes), "4").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cluster.sh up: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// lacks tells what a Slurm here would lack; empty: nothing.
func lacks() string {
	if os.Geteuid() != 0 {
		return "starting a Slurm needs root, for its hosts' namespaces"
	}
	for _, program := range []string{"slurmctld", "slurmd", "munged", "sbatch", "ip", "nsenter", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			return program + " is not installed (apt-get install slurmctld slurmd slurm-client munge iproute2)"
		}
	}
	if out, err := exec.Command("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true").CombinedOutput(); err != nil {
		return fmt.Sprintf("no namespaces can be made here: %v %s", err, out)
	}
	return ""
}

// answer is what sayWhere writes.
type answer struct {
	Node  string
	Place where.Place
	Error string
	Addrs []netip.Addr // of the host that was asked for
}

func sayWhere(host string) int {
	a := answer{Node: os.Getenv("SLURMD_NODENAME")}
	place, err := where.Find(where.Flags{}, os.Environ())
	a.Place = place
	if err == nil && host != "-" {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		a.Addrs, err = where.NewResolver(os.Environ()).Addresses(ctx, host)
	}
	if err != nil {
		a.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		return 1
	}
	return 0
}
