package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/ddprun/ddprun/launch"
)

// torchrunTee are torchrun's numbers for --tee.
var torchrunTee = map[string]launch.Tee{"0": launch.TeeNone, "1": launch.TeeStdout, "2": launch.TeeStderr, "3": launch.TeeAll}

func (o *trainOptions) addTee(flags *pflag.FlagSet) {
	flags.StringVarP(&o.tee, "tee", "t", "", "whose output is shown besides being filed: rank0 (default), all, none, or stdout or stderr of all ranks; torchrun's 0 to 3 are none, stdout, stderr, all")
	flags.StringVarP(&o.redirects, "redirects", "r", "", "torchrun's: 3 is --tee none; nothing else, since all output is filed")
}

// settleTee turns what was given for tee and redirects into one of launch's values.
func (o *trainOptions) settleTee() error {
	switch o.redirects {
	case "":
	case "3":
		if o.tee == "" {
			o.tee = string(launch.TeeNone)
		}
	default:
		return fmt.Errorf("--redirects: got %q; ddprun files all output of every rank, which is torchrun's 3; --tee says what is shown besides", o.redirects)
	}
	if o.tee == "" {
		o.tee = string(launch.TeeRank0)
	}
	if ours, ok := torchrunTee[o.tee]; ok {
		o.tee = string(ours)
	}
	switch launch.Tee(o.tee) {
	case launch.TeeRank0, launch.TeeAll, launch.TeeNone, launch.TeeStdout, launch.TeeStderr:
		return nil
	}
	return fmt.Errorf("--tee: want rank0, all, none, stdout or stderr, or torchrun's 0 to 3, got %q (values for each rank, as 0:1,1:2, are not taken)", o.tee)
}
