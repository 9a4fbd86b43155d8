package checkpoint

import (
	"encoding/json"
	"math"
)

// TrainerState is trainer_state.json: transformers' TrainerState with the same names, so that tools made for Trainer's
// checkpoints read ours. Steps are optimizer updates.
type TrainerState struct {
	BestGlobalStep      *int64   `json:"best_global_step"`
	BestMetric          *float64 `json:"best_metric"`
	BestModelCheckpoint *string  `json:"best_model_checkpoint"`
	Epoch               float64  `json:"epoch"` // with the share of the epoch under way
	EvalSteps           int64    `json:"eval_steps"`
	GlobalStep          int64    `json:"global_step"`
	// The three "is" fields are constants of Trainer's rank 0; Save fills them.
	IsHyperParamSearch bool             `json:"is_hyper_param_search"`
	IsLocalProcessZero bool             `json:"is_local_process_zero"`
	IsWorldProcessZero bool             `json:"is_world_process_zero"`
	LogHistory         []map[string]any `json:"log_history"`
	LoggingSteps       int64            `json:"logging_steps"`
	MaxSteps           int64            `json:"max_steps"`
	NumInputTokensSeen int64            `json:"num_input_tokens_seen"`
	NumTrainEpochs     int64            `json:"num_train_epochs"` // rounded up, as Trainer does
	SaveSteps          int64            `json:"save_steps"`
	StatefulCallbacks  map[string]any   `json:"stateful_callbacks"`
	TotalFlos          float64          `json:"total_flos"`
	TrainBatchSize     int64            `json:"train_batch_size"` // of a micro-batch
	TrialName          *string          `json:"trial_name"`
	TrialParams        map[string]any   `json:"trial_params"`
}

// encode returns the file's content. JSON knows no NaN and no infinity; those of the log become null.
func (t TrainerState) encode() ([]byte, error) {
	t.IsLocalProcessZero, t.IsWorldProcessZero = true, true
	if t.StatefulCallbacks == nil {
		t.StatefulCallbacks = map[string]any{}
	}
	history := make([]map[string]any, len(t.LogHistory))
	for i, entry := range t.LogHistory {
		history[i] = make(map[string]any, len(entry))
		for key, value := range entry {
			if f, ok := value.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
				value = nil
			}
			history[i][key] = value
		}
	}
	t.LogHistory = history
	data, err := json.MarshalIndent(t, "", "  ")
	return append(data, '\n'), err
}
