// Command ddprun is what people type: it reads the configuration, says what is wrong with it before anything starts, and
// starts one ddprun-worker for each rank (package launch). Without a worker to hand it needs nothing but itself: it is pure Go,
// linked statically, and starts in milliseconds.
//
//	ddprun [flags] train.yaml                 train
//	ddprun eval, prepare, inspect, tokenize   run by ddprun-worker, which has libtorch and the tokenizers
//	ddprun version, completion, help
//
// Its exit codes are launch's Exit constants.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
