package launch

import (
	"os/exec"
	"strings"
	"testing"
)

func TestHelperByHand(t *testing.T) {
	for _, args := range [][]string{nil, {"guard"}, {"guard", "x"}, {"exec"}, {"nonsense"}} {
		out, err := exec.Command("/proc/self/exe", append([]string{"test-helper"}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "by hand") {
			t.Errorf("%v: %v, %q", args, err, out)
		}
	}
	out, err := exec.Command("/proc/self/exe", "test-helper", "exec", "/no/such/worker").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/no/such/worker") {
		t.Errorf("exec of nothing: %v, %q", err, out)
	}
}
