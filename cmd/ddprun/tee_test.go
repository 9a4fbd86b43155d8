package main

import (
	"testing"

	"github.com/spf13/pflag"
)

// TestTorchrunsFlags: those of torchrun that belong to one node, with dashes and underscores.
func TestTorchrunsFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // tee
		bad  bool
	}{
		{nil, "rank0", false},
		{[]string{"--tee", "3"}, "all", false},
		{[]string{"-t", "0"}, "none", false},
		{[]string{"--tee=1"}, "stdout", false},
		{[]string{"--tee=2"}, "stderr", false},
		{[]string{"--tee=stderr"}, "stderr", false},
		{[]string{"--redirects", "3"}, "none", false},
		{[]string{"-r", "3", "--tee", "3"}, "all", false},
		{[]string{"-r", "1"}, "", true},
		{[]string{"--tee", "0:1,1:2"}, "", true},
		{[]string{"--tee", "4"}, "", true},
		{[]string{"--max_restarts", "2", "--log_dir", "x", "--nproc_per_node", "2"}, "rank0", false},
	} {
		o := &trainOptions{}
		flags := pflag.NewFlagSet("ddprun", pflag.ContinueOnError)
		flags.SetNormalizeFunc(normalizeFlag)
		o.addFlags(flags)
		err := flags.Parse(c.args)
		if err == nil {
			err = o.check()
		}
		if (err != nil) != c.bad || !c.bad && o.tee != c.want {
			t.Errorf("%q: tee %q, %v", c.args, o.tee, err)
		}
		if len(c.args) == 6 && (o.maxRestarts != 2 || o.logDir != "x" || o.nproc != "2") {
			t.Errorf("%q: %+v", c.args, o)
		}
	}
}
