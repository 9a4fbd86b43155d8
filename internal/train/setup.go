package train

import (
	"context"
	"fmt"
	"math"
	"os"
	"regexp"

	"github.com/rs/zerolog"

	"github.com/ddprun/ddprun/ddp"
	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/hf"
	"github.com/ddprun/ddprun/internal/model"
	"github.com/ddprun/ddprun/internal/torch"
)

// Limits is what a model's positions mean for samples.
type Limits struct {
	MaxTokens      int   // longest sample, special tokens included, that follows from max_seq_length
	PositionOffset int   // position id of a sample's first token
	DecoderStart   int64 // the id that a sample's decoder input begins with, of a model that writes text
}

// Check tells what is wrong with the model and the vocabulary for this configuration, before anything is started: an error of kind [ErrInput].
func Check(c *config.Config, vocabSize int) (Limits, error) {
	limits, err := check(c, vocabSize)
	return limits, mark(ErrInput, err)
}

func check(c *config.Config, vocabSize int) (Limits, error) {
	modelDir, maxSeqLength := c.Model, c.MaxSeqLength
	cfg, err := hf.ReadConfig(modelDir)
	if err != nil {
		return Limits{}, err
	}
	m, err := model.New(cfg, headsOf(c))
	if err != nil {
		return Limits{}, err
	}
	if _, err := frozenOf(m.Specs(), c.Freeze); err != nil {
		return Limits{}, err
	}
	w, err := openWeights(modelDir)
	if err != nil {
		return Limits{}, err
	}
	if w != nil {
		defer w.Close()
		if err := model.Check(m, w); err != nil {
			return Limits{}, err
		}
	}
	if vocabSize > m.VocabRows() {
		return Limits{}, fmt.Errorf("%s: the tokenizer has ids up to %d, the model's embeddings have %d rows: tokenizer and model don't belong together",
			modelDir, vocabSize-1, m.VocabRows())
	}
	limits := Limits{PositionOffset: m.PositionOffset()}
	decoder, writes := m.(model.Decoder)
	if maxSeqLength == 0 {
		maxSeqLength = m.MaxTokens()
		if writes {
			maxSeqLength = unboundedMaxTokens
		}
	}
	if maxSeqLength > m.MaxTokens() {
		return Limits{}, fmt.Errorf("max_seq_length: %d is more than the %d positions of %s", maxSeqLength, m.MaxTokens(), modelDir)
	}
	limits.MaxTokens = maxSeqLength
	if writes {
		limits.DecoderStart = decoder.DecoderStart()
	}
	return limits, nil
}

// unboundedMaxTokens is the longest sample, where nobody says one, of a model whose positions have no end: what T5 was pre-trained with.
const unboundedMaxTokens = 512

// setUp builds the model with its parameters, from the model directory or the checkpoint, and the optimizer. The end of ctx ends the loading, with its cause; whatever ranks do together
// comes before that.
func (r *rank) setUp(ctx context.Context, start beginning) (err error) {
	c := r.job.Config
	torch.SetThreads(r.job.Threads)
	torch.SetBF16(c.BF16)
	dir := c.Model
	if start.checkpoint != nil {
		dir = start.checkpoint.Path // the run goes on as what it was, whatever has become of the model's directory
	}
	if r.config, err = hf.ReadConfig(dir); err != nil {
		return mark(ErrInput, err)
	}
	if r.model, err = model.New(r.config, headsOf(r.job.Config)); err != nil {
		return mark(ErrInput, err)
	}
	var list []ddp.Param
	specs := r.model.Specs()
	frozen, err := frozenOf(specs, c.Freeze)
	if err != nil {
		return mark(ErrInput, err)
	}
	for i, s := range specs {
		list = append(list, ddp.Param{Name: s.Name, Shape: s.Shape, Frozen: frozen[i]})
	}
	if r.params, err = ddp.NewParams(list, r.data); err != nil {
		return err
	}
	r.model.Bind(r.params.Tensors())
	steps := int64(0)
	if start.checkpoint == nil {
		err = r.loadModel(ctx)
	} else {
		steps, err = r.loadCheckpoint(ctx, start.checkpoint)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return mark(ErrInput, err)
	}
	r.opt = ddp.NewOptimizer(r.params, ddp.AdamWConfig{Beta1: c.AdamBeta1, Beta2: c.AdamBeta2, Eps: c.AdamEpsilon, WeightDecay: c.WeightDecay},
		layerwise(specs, c.LayerwiseLRDecay), steps)
	if r.reduce, err = ddp.NewReducer(r.params, r.data, int64(c.DDPBucketCapMiB)<<20); err != nil {
		return err
	}
	switch c.DDPCommHook {
	case "bf16":
		return r.reduce.Compress(torch.BFloat16)
	case "fp16":
		return r.reduce.Compress(torch.Float16)
	}
	return nil
}

// frozenOf tells which parameters the patterns freeze. A pattern that finds none is an error, and so is that nothing is left to learn.
func frozenOf(specs []model.Spec, patterns []string) ([]bool, error) {
	frozen := make([]bool, len(specs))
	left := len(specs)
	for _, pattern := range patterns {
		expr, err := regexp.Compile(pattern)
		if err != nil {
			return nil, fmt.Errorf("freeze: %w", err)
		}
		found := false
		for i, s := range specs {
			if !expr.MatchString(s.Name) {
				continue
			}
			found = true
			if !frozen[i] {
				frozen[i] = true
				left--
			}
		}
		if !found {
			return nil, fmt.Errorf("freeze: %q is in the name of no parameter; they are named as %s and %s", pattern, specs[0].Name, specs[len(specs)-1].Name)
		}
	}
	if left == 0 {
		return nil, fmt.Errorf("freeze: %q freeze all %d parameters, so nothing would learn", patterns, len(specs))
	}
	return frozen, nil
}

// layerwise returns what the learning rate of each parameter is multiplied with: decay once for each layer above it, so 1 for the heads.
func layerwise(specs []model.Spec, decay float64) []float64 {
	top := 0
	for _, s := range specs {
		top = max(top, s.Depth)
	}
	scales := make([]float64, len(specs))
	for i, s := range specs {
		scales[i] = math.Pow(decay, float64(top-s.Depth))
	}
	return scales
}

// loadModel fills the parameters from the model directory; one without weights begins at random.
func (r *rank) loadModel(ctx context.Context) error {
	dir := r.job.Config.Model
	w, err := openWeights(dir)
	if err != nil {
		return err
	}
	if w != nil {
		defer w.Close()
	}
	report, err := model.Load(ctx, r.model, r.params.Tensors(), w, uint64(r.job.Config.Seed))
	if err != nil {
		return err
	}
	level := zerolog.InfoLevel
	if w != nil && len(report.NewlyInitialised) > 0 {
		level = zerolog.WarnLevel
	}
	log := r.job.Log.WithLevel(level).Str("model", dir).Int64("parameters", r.params.Numel())
	if w == nil {
		log.Msg("the model directory has no weights: all parameters are newly initialised")
		return nil
	}
	log.Strs("newly_initialised", report.NewlyInitialised).Strs("unused", report.Unused).Msg("model loaded")
	return nil
}

// openWeights opens the weights of a model directory; nil: it has none. A directory where only some name looks like weights is not
// taken for one without. The caller closes the result.
func openWeights(dir string) (*hf.Weights, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if hf.LikeWeights(entry.Name()) {
			return hf.Open(dir)
		}
	}
	return nil, nil
}

// LibtorchVersion is the version of the libtorch that this program runs on.
func LibtorchVersion() string { return torch.Version() }
