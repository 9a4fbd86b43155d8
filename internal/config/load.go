package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// EnvPrefix begins the names of the variables that set keys: DDPRUN_CFG_LEARNING_RATE sets learning_rate.
const EnvPrefix = "DDPRUN_CFG_"

// Loaded is a checked configuration and how it came about.
type Loaded struct {
	Config *Config
	// Notes tell what became of old and ignored keys, each with its source. For the log.
	Notes []string
	// Sources gives for each key where its value comes from: "train.yaml:3", "DDPRUN_CFG_SEED", "--set seed",
	// "default", or the key that it follows from.
	Sources map[string]string
}

// Load reads the YAML file at path, lays the DDPRUN_CFG_ variables in environ (as os.Environ returns them) and the sets
// ("key=value") over it, in this order, and checks the result. Its error holds every problem found, one a line.
func Load(path string, sets, environ []string) (*Loaded, error) {
	top, err := readDocument(path)
	if err != nil {
		return nil, err
	}
	return load(path, top, sets, environ)
}

// FromSets is Load without a file or variables: a command's own flags, as "key=value", over the defaults.
func FromSets(sets []string) (*Config, error) {
	loaded, err := load("flags", &yaml.Node{Kind: yaml.MappingNode}, sets, nil)
	if err != nil {
		return nil, err
	}
	return loaded.Config, nil
}

func load(path string, top *yaml.Node, sets, environ []string) (*Loaded, error) {
	l := &loader{viper: viper.New()}
	l.layer(fileEntries(path, top))
	l.layer(envEntries(environ))
	l.layer(setEntries(sets))
	if len(l.errs) > 0 {
		return nil, join(l.errs)
	}
	loaded := &Loaded{Config: Default(), Notes: l.notes, Sources: map[string]string{}}
	c := loaded.Config
	given := map[string]entry{}
	for _, f := range fields {
		loaded.Sources[f.key] = "default"
		e, found := l.viper.Get(f.key).(entry)
		if !found {
			continue
		}
		if !isNull(resolve(e.value)) {
			given[f.key] = e
			loaded.Sources[f.key] = e.at()
		}
		l.errs = append(l.errs, c.decode(e)...)
	}
	if len(l.errs) > 0 {
		return nil, join(l.errs)
	}
	c.settle(func(key string) bool { _, found := given[key]; return found }, loaded.Sources)
	for _, p := range c.problems() {
		e, found := given[p.key]
		switch {
		case found:
			l.errs = append(l.errs, fmt.Errorf("%s: %w", e.at(), p))
		case !strings.HasPrefix(loaded.Sources[p.key], derived): // else the key it follows from is reported
			l.errs = append(l.errs, fmt.Errorf("%s: %w", path, p))
		}
	}
	if len(l.errs) > 0 {
		return nil, join(l.errs)
	}
	return loaded, nil
}

// maxErrors bounds what is told about a file that is wrong throughout.
const maxErrors = 20

// join makes one error of all, one a line.
func join(errs []error) error {
	if len(errs) > maxErrors {
		errs = append(slices.Clone(errs[:maxErrors]), errors.New("and more like these"))
	}
	return errors.Join(errs...)
}

// loader collects the layers. viper decides which one wins; its values are entries, which it does not look into.
type loader struct {
	viper *viper.Viper
	notes []string
	errs  []error
}

// layer lays entries over those before.
func (l *loader) layer(entries []entry, errs []error) {
	l.errs = append(l.errs, errs...)
	given := map[string]entry{}
	layer := map[string]any{}
	for _, e := range entries {
		if len(l.errs) > maxErrors {
			return
		}
		out, keep, note, err := translate(e)
		if err == nil && keep {
			err = checkKey(out)
		}
		if err != nil {
			l.errs = append(l.errs, err)
			continue
		}
		if note != "" {
			l.notes = append(l.notes, fmt.Sprintf("%s: %s: %s", e.at(), e.key, note))
		}
		if !keep {
			continue
		}
		if other, twice := given[out.key]; twice && other.key != e.key {
			l.errs = append(l.errs, e.errorf("says the same as %s (%s); keep one", other.key, other.at()))
			continue
		}
		given[out.key] = e
		layer[out.key] = out
	}
	if err := l.viper.MergeConfigMap(layer); err != nil {
		l.errs = append(l.errs, err)
	}
}

// checkKey refuses a key that does not exist and names the nearest that does.
func checkKey(e entry) error {
	if _, found := fieldOf[e.key]; found {
		return nil
	}
	if key, found := meant[e.key]; found {
		return e.errorf("unknown key; did you mean %s?", key)
	}
	if key := nearest(e.key); key != "" {
		return e.errorf("unknown key; did you mean %s?", key)
	}
	return e.errorf("unknown key; docs/configuration.md lists the keys")
}

// nearest returns the key that takes the fewest changes to become key, empty if none is alike.
func nearest(key string) string {
	if len(key) > 100 {
		return ""
	}
	word := strings.ToLower(strings.ReplaceAll(key, "-", "_"))
	best, distance := "", max(2, len(word)/3)+1
	try := func(name string) {
		if d := levenshtein.ComputeDistance(word, name); d < distance {
			best, distance = name, d
		}
	}
	for _, f := range fields {
		try(f.key)
	}
	for _, name := range slices.Sorted(maps.Keys(renamed)) {
		try(name)
	}
	return best
}

func fileEntries(path string, top *yaml.Node) ([]entry, []error) {
	if top == nil {
		return nil, nil
	}
	var entries []entry
	src := source{name: path, lines: true}
	errs := pairs(top, src, func(key string, keyNode, value *yaml.Node) {
		entries = append(entries, entry{key: key, where: keyNode, value: value, src: src})
	})
	return entries, errs
}

func envEntries(environ []string) ([]entry, []error) {
	var entries []entry
	for _, variable := range slices.Sorted(slices.Values(environ)) {
		name, text, _ := strings.Cut(variable, "=")
		if key, found := strings.CutPrefix(name, EnvPrefix); found {
			entries = append(entries, fromText(strings.ToLower(key), text, name))
		}
	}
	return entries, nil
}

func setEntries(sets []string) ([]entry, []error) {
	var entries []entry
	var errs []error
	for _, set := range sets {
		key, text, found := strings.Cut(set, "=")
		key = strings.TrimSpace(key)
		if !found || key == "" {
			errs = append(errs, fmt.Errorf("--set %s: want key=value", set))
			continue
		}
		entries = append(entries, fromText(key, text, "--set "+key))
	}
	return entries, errs
}
