// Package config reads train.yaml: one flat YAML file, checked before anything starts.
//
// Load lays four layers over each other (defaults, the file, DDPRUN_CFG_<KEY> variables, --set key=value), settles the
// defaults that follow from other keys, and checks ranges and combinations. It returns a Config, notes for the log (old
// names that were taken), and where each value came from. Every error names its source (file and line, variable, or
// flag) and the key. What cannot be known without libtorch, a tokenizer or the data is checked later, by the worker.
//
// The agent sends the settled Config to its workers as JSON; Decode reads it back, as strictly. Differences tells
// which keys a resumed run has changed and whether it may.
//
// Caveats: relative paths are relative to the working directory, as Trainer's. YAML is read with
// go.yaml.in/yaml/v3 nodes because viper keeps neither line numbers nor the case of keys; viper decides only which layer wins.
package config
