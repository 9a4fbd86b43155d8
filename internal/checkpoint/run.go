package checkpoint

import (
	"github.com/ddprun/ddprun/internal/generation"
)

// Run is whose generation it is. Agents may be empty.
type Run = generation.Run

// ResumeMode returns what resume_from_checkpoint: mode means to a generation of run: where it goes on with an earlier one, which has left a checkpoint,
// it does not begin anew.
func ResumeMode(outputDir, mode string, run Run) (string, error) {
	if mode == ResumeAuto {
		return mode, nil
	}
	before, err := generation.LastRun(outputDir)
	if err != nil || !run.GoesOn(before) {
		return mode, err
	}
	if newest, err := Newest(outputDir); err != nil || newest == 0 {
		return mode, err
	}
	return ResumeAuto, nil
}

// Newest returns the step of the newest checkpoint that a run in outputDir would go on from, 0 where there is none: it counts, and has every file in
// its length. The files are not read, so Load may still find it damaged.
func Newest(outputDir string) (step int64, err error) {
	checkpoints, err := list(outputDir)
	if err != nil {
		return 0, err
	}
	for i := len(checkpoints) - 1; i >= 0; i-- {
		if c := checkpoints[i]; c.ours && quickCheck(c.path) {
			return c.step, nil
		}
	}
	return 0, nil
}
