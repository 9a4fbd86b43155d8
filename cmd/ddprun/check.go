package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"github.com/ddprun/ddprun/internal/config"
	"github.com/ddprun/ddprun/internal/hf"
)

// architectures are the classes of transformers whose weights internal/model takes, by model_type.
var architectures = map[string][]string{
	"bert":        {"BertForMaskedLM", "BertForNextSentencePrediction", "BertForPreTraining", "BertModel"},
	"mt5":         {"MT5ForConditionalGeneration", "MT5Model"},
	"t5":          {"T5ForConditionalGeneration", "T5Model", "T5WithLMHeadModel"}, // the last is an older name of the first
	"roberta":     {"RobertaForMaskedLM", "RobertaModel"},
	"xlm-roberta": {"XLMRobertaForMaskedLM", "XLMRobertaModel"},
	"camembert":   {"CamembertForMaskedLM", "CamembertModel"},
	"distilbert":  {"DistilBertForMaskedLM", "DistilBertModel"},
	"electra":     {"ElectraForMaskedLM", "ElectraForPreTraining", "ElectraModel"},
}

// checkInput checks what the configuration names, as far as that needs neither libtorch nor a tokenizer.
func checkInput(loaded *config.Loaded) error {
	c := loaded.Config
	var errs []error
	note := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", loaded.Sources[key], key, err))
		}
	}
	note("model", checkModel(c.Model))
	note("data", checkPaths(c.Data.Paths()))
	for _, set := range c.EvalData {
		note("eval_data", checkPaths(set.Paths))
	}
	note("output_dir", checkWritable(c.OutputDir))
	if from := c.ResumeFromCheckpoint; from != "auto" && from != "none" {
		if info, err := os.Stat(from); err != nil || !info.IsDir() {
			note("resume_from_checkpoint", fmt.Errorf("%s is no directory; want auto, none or a checkpoint's directory", from))
		}
	}
	return errors.Join(errs...)
}

// checkModel refuses a directory that holds no model, one that ddprun cannot train, or damaged weights.
func checkModel(dir string) error {
	c, err := hf.ReadConfig(dir)
	if err != nil {
		return err
	}
	family, err := c.ModelType()
	if err != nil {
		return err
	}
	names, err := c.Architectures()
	if err != nil {
		return err
	}
	known, found := architectures[family]
	isKnown := func(name string) bool { return slices.Contains(known, name) }
	switch {
	case !found:
		return fmt.Errorf("%s: the model_type %q is not supported; supported architectures: %s", c.Path(), family, supported())
	case len(names) > 0 && !slices.ContainsFunc(names, isKnown): // a config.json need not name any
		return fmt.Errorf("%s: the architecture %s is not supported; supported architectures: %s",
			c.Path(), strings.Join(names, ", "), supported())
	}
	return checkWeights(dir)
}

// checkWeights refuses damaged weights. Whether a directory without any will do is the worker's to say.
func checkWeights(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	isWeights := func(entry os.DirEntry) bool {
		name := strings.TrimSuffix(entry.Name(), ".index.json")
		return strings.HasSuffix(name, ".safetensors") || name == "pytorch_model.bin"
	}
	if !slices.ContainsFunc(entries, isWeights) {
		return nil
	}
	weights, err := hf.Open(dir)
	if err != nil {
		return err
	}
	return weights.Close()
}

// checkWritable wants dir to be a directory in which this process may make files, or one that it may make.
func checkWritable(dir string) error {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("%s is a file; name a directory", at)
		case err == nil:
			if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
				return fmt.Errorf("cannot make files in %s: %w", at, err)
			}
			return nil
		case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
			return err
		}
		if _, err := os.Lstat(at); err == nil {
			return fmt.Errorf("%s is a link that leads nowhere", at)
		}
		if at == filepath.Dir(at) {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
}

func supported() string {
	var all []string
	for _, names := range architectures {
		all = append(all, names...)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// checkPaths wants every path to exist and every pattern to match. What lies there is the worker's to read.
func checkPaths(patterns []string) error {
	for _, pattern := range patterns {
		if strings.Contains(pattern, "://") {
			continue // the worker asks for it
		}
		if _, err := os.Stat(pattern); err == nil {
			continue
		}
		glob := filepath.Glob
		if strings.Contains(pattern, "**") {
			glob = func(p string) ([]string, error) { return doublestar.FilepathGlob(p, doublestar.WithNoFollow()) }
		}
		switch matches, err := glob(pattern); {
		case err != nil:
			return fmt.Errorf("%s: %w", pattern, err)
		case len(matches) == 0:
			return fmt.Errorf("%s: no such file", pattern)
		}
	}
	return nil
}
