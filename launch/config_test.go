package launch

import (
	"context"
	"strings"
	"testing"
)

func TestBadConfig(t *testing.T) {
	good := agentConfig{Scripts: scripts{{"done"}}, NProc: 1}.config()
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
		code   int
	}{
		"nproc 0":         {func(c *Config) { c.NProc = 0 }, "nproc is 0", ExitConfig},
		"nproc -1":        {func(c *Config) { c.NProc = -1 }, "nproc is -1", ExitConfig},
		"nproc huge":      {func(c *Config) { c.NProc = 1 << 30 }, "at most 1024", ExitConfig},
		"no worker":       {func(c *Config) { c.Worker = nil }, "no worker", ExitConfig},
		"threads":         {func(c *Config) { c.ThreadsPerRank = -1 }, "threads", ExitConfig},
		"restarts":        {func(c *Config) { c.MaxRestarts = -1 }, "restarts", ExitConfig},
		"grace":           {func(c *Config) { c.Grace = -1 }, "grace", ExitConfig},
		"tee":             {func(c *Config) { c.Tee = "some" }, `"some"`, ExitConfig},
		"config":          {func(c *Config) { c.ConfigJSON = []byte("{") }, "not JSON", ExitConfig},
		"config too long": {func(c *Config) { c.ConfigJSON = make([]byte, 5<<20) }, "4 MiB", ExitConfig},
		"missing worker":  {func(c *Config) { c.Worker[0] = "/no/such/worker" }, "/no/such/worker", ExitFailed},
		"log dir a file":  {func(c *Config) { c.LogDir = "/dev/null/logs" }, "log directory", ExitFailed},
		"missing helper":  {func(c *Config) { c.Helper = []string{"/no/such/helper"} }, "/no/such/helper", ExitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			bad.Worker = append([]string{}, good.Worker...)
			c.change(&bad)
			outcome, err := Run(context.Background(), bad)
			if err == nil || !strings.Contains(err.Error(), c.want) || outcome.Code != c.code {
				t.Errorf("%v, exit code %d; want %q, %d", err, outcome.Code, c.want, c.code)
			}
		})
	}
}
