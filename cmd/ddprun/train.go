package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/launch"
	"github.com/ddprun/ddprun/launch/where"
)

// trainOptions are the flags of ddprun itself, as opposed to the keys of train.yaml.
type trainOptions struct {
	nproc       string
	sets        []string
	worker      string
	logDir      string
	logFormat   string
	tee         string
	redirects   string
	maxRestarts int
	limits      launch.Limits
	debugRanks  []int
	metricsAddr string
	logMaxSize  byteSize
	logAttempts int
	grace       time.Duration
	printConfig bool
	dryRun      bool
	nodes       nodeOptions

	stdout, stderr io.Writer
}

func (o *trainOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.nproc, "nproc", "", "ranks on this machine: a `number`, or auto for one a GPU (also --nproc-per-node; default 1)")
	flags.StringArrayVar(&o.sets, "set", nil, "set a key over the file and variables, as `key=value`; repeatable")
	flags.StringVar(&o.worker, "worker", "", "`path` of "+workerName+" (default: beside ddprun, then in PATH)")
	flags.StringVar(&o.logDir, "log-dir", "", "`directory` for the ranks' output (default: logs in output_dir)")
	flags.StringVar(&o.metricsAddr, "metrics-addr", "", "serve metrics for Prometheus at `host:port`/metrics (default: nowhere); whoever reaches the port can read them")
	o.logMaxSize = defaultLogMaxSize
	flags.Var(&o.logMaxSize, "log-max-size", "a rank's log begins anew at this `size`, and what it was becomes NAME.1 (0: never)")
	flags.IntVar(&o.logAttempts, "log-max-attempts", 20, "starts of the ranks whose logs are kept, besides the first that failed (0: all)")
	flags.StringVar(&o.logFormat, "log-format", "console", "ddprun's own log on standard error: console or json")
	o.addTee(flags)
	o.addLimits(flags)
	flags.IntVar(&o.maxRestarts, "max-restarts", restartsByNodes, "times to start the ranks again after a failure, from the newest checkpoint (default: 0 on one node, "+strconv.Itoa(launch.DefaultMaxRestarts)+" on several)")
	flags.Lookup("max-restarts").DefValue = "0" // the usage tells the default
	flags.DurationVar(&o.grace, "grace", launch.DefaultGrace, "how long a stop with a checkpoint may take before the ranks are killed")
	flags.IntSliceVar(&o.debugRanks, "debug-rank", nil, "this `rank` waits at its start until a debugger is attached (gdb -p PID, dlv attach PID; its stderr says which), and "+
		"has no time-outs; the others wait for it, and nobody kills it while it is debugged; repeatable")
	flags.BoolVar(&o.printConfig, "print-config", false, "print every key with its value and source, and stop there")
	flags.BoolVar(&o.dryRun, "dry-run", false, "check configuration, model and text, print the configuration, start nothing")
	o.nodes.addFlags(flags)
}

// restartsByNodes stands for a --max-restarts that was not given.
const restartsByNodes = math.MinInt

func (o *trainOptions) restarts(place where.Place) int {
	switch {
	case o.maxRestarts != restartsByNodes:
		return o.maxRestarts
	case place.MaxRestarts >= 0:
		return place.MaxRestarts
	case place.MaxNodes > 1:
		return launch.DefaultMaxRestarts
	}
	return 0
}

// ranks is how many this node runs.
func (o *trainOptions) ranks(place where.Place, device string) (int, error) {
	text := o.nproc
	if text == "" {
		text = place.NProc
	}
	if text == "" {
		text = "1"
	}
	return parseNProc(text, device)
}

// check refuses flags that launch.Run would, before anything is done for it.
func (o *trainOptions) check() error {
	if err := o.settleTee(); err != nil {
		return err
	}
	if o.maxRestarts < 0 && o.maxRestarts != restartsByNodes {
		return fmt.Errorf("--max-restarts: must be at least 0, got %d", o.maxRestarts)
	}
	if o.logAttempts < 0 {
		return fmt.Errorf("--log-max-attempts: must be at least 0, got %d", o.logAttempts)
	}
	return o.checkLimits()
}

// train reads the configuration at path, checks what can be checked before anything starts or is written, and runs the ranks.
func train(ctx context.Context, o *trainOptions, path string) error {
	loaded, err := config.Load(path, o.sets, os.Environ())
	if err != nil {
		return err
	}
	c := loaded.Config
	logger, err := newLogger(o.stderr, o.logFormat, c.LogLevel)
	if err != nil {
		return err
	}
	for _, note := range loaded.Notes {
		logger.Info().Msg(note)
	}
	if err := o.check(); err != nil {
		return err
	}
	place, err := o.nodes.find()
	if err != nil {
		return err
	}
	if place.RunID == "" && place.MaxNodes > 1 {
		if place.RunID, err = launch.DefaultRunID(c.OutputDir); err != nil {
			return err
		}
	}
	nproc, err := o.ranks(place, c.Device)
	if err != nil {
		return err
	}
	if err := checkDebugRanks(o.debugRanks, place.MaxNodes*nproc); err != nil {
		return err
	}
	if _, err := c.Lanes(place.MaxNodes * nproc); err != nil {
		return err
	}
	if o.printConfig {
		return loaded.Print(o.stdout)
	}
	if err := checkInput(loaded); err != nil {
		return err
	}
	if o.logDir != "" {
		if err := checkWritable(o.logDir); err != nil {
			return fmt.Errorf("--log-dir: %w", err)
		}
	}
	worker, err := findWorker(o.worker)
	if err != nil {
		return err
	}
	settled, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	nodes, err := o.nodes.nodes(place, c)
	if err != nil {
		return err
	}
	request := checkRequest{least: place.MinNodes * nproc, most: place.MaxNodes * nproc, local: nproc, runID: place.RunID, shared: place.MaxNodes > 1, dry: o.dryRun}
	if nodes.Digests, err = workerCheck(ctx, worker, request, settled, o.stderr); err != nil {
		return err
	}
	if nodes.Digests["configuration"], err = configDigest(settled); err != nil {
		return err
	}
	if o.dryRun {
		return loaded.Print(o.stdout)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	outcome, err := launch.Run(ctx, launch.Config{
		Worker:         []string{worker, "train"},
		Helper:         []string{self, helperCommand},
		NProc:          nproc,
		ConfigJSON:     settled,
		OutputDir:      c.OutputDir,
		LogDir:         o.logDir,
		ThreadsPerRank: c.ThreadsPerRank,
		MaxRestarts:    o.restarts(place),
		Grace:          o.grace,
		RunID:          place.RunID,
		Nodes:          nodes,
		Limits:         o.limits,
		DebugRanks:     o.debugRanks,
		MetricsAddr:    o.metricsAddr,
		TrainJob:       launch.TrainJobOf(os.Getenv),
		LogMaxSize:     int64(o.logMaxSize),
		LogMaxAttempts: o.logAttempts,
		Tee:            launch.Tee(o.tee),
		Stdout:         o.stdout,
		Stderr:         o.stderr,
		Logger:         logger,
	})
	if err != nil || outcome.Code != launch.ExitDone {
		return &exitError{outcome.Code, err}
	}
	return nil
}
