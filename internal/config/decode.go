package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// field is one key of Config as its struct tags describe it.
type field struct {
	key      string
	index    int
	enum     []string
	nullable bool // an empty value means the default
	path     bool // a leading ~/ is expanded
	resume   bool // a resumed run may change it
}

// fields are the keys in the order of the struct; fieldOf finds them by name.
var fields, fieldOf = describeFields()

func describeFields() ([]field, map[string]field) {
	var list []field
	byKey := map[string]field{}
	for i, t := 0, reflect.TypeFor[Config](); i < t.NumField(); i++ {
		tag := t.Field(i).Tag
		f := field{key: tag.Get("json"), index: i}
		if enum := tag.Get("enum"); enum != "" {
			f.enum = strings.Split(enum, "|")
		}
		for option := range strings.SplitSeq(tag.Get("cfg"), ",") {
			switch option {
			case "null":
				f.nullable = true
			case "path":
				f.path = true
			case "resume":
				f.resume = true
			}
		}
		list = append(list, f)
		byKey[f.key] = f
	}
	return list, byKey
}

// decode reads an entry's value into the field of c that has its key, which must exist.
func (c *Config) decode(e entry) []error {
	f := fieldOf[e.key]
	target := reflect.ValueOf(c).Elem().Field(f.index)
	value := resolve(e.value)
	if isNull(value) {
		if f.nullable {
			return nil
		}
		return []error{e.errorf("has no value")}
	}
	var errs []error
	switch p := target.Addr().Interface().(type) {
	case *Strings:
		list, err := decodeStrings(e, value)
		*p, errs = list, asList(err)
	case *Data:
		*p, errs = decodeData(e, value)
	case *EvalData:
		*p, errs = decodeEvalData(e, value)
	case *Mixture:
		*p, errs = decodeMixture(e, value)
	case *LRSchedulerKwargs:
		errs = decodeKwargs(e, value, p)
	default:
		errs = asList(decodeScalar(e, value, target))
	}
	if len(errs) == 0 && f.path {
		errs = asList(expandHome(e, target.Addr().Interface()))
	}
	return errs
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func asList(err error) []error {
	if err == nil {
		return nil
	}
	return []error{err}
}

var decimal = regexp.MustCompile(`^[-+]?(0|[1-9][0-9_]*)$`)

// decodeScalar reads text, a truth value or a number into target.
func decodeScalar(e entry, n *yaml.Node, target reflect.Value) error {
	tag := ""
	if n.Kind == yaml.ScalarNode {
		tag = n.ShortTag()
	}
	switch target.Kind() {
	case reflect.String:
		text, err := decodeString(e, n)
		target.SetString(text)
		return err
	case reflect.Bool:
		if tag != "!!bool" {
			return e.errorf("want true or false, got %s", describe(n))
		}
		target.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int, reflect.Int64:
		if tag != "!!int" || !decimal.MatchString(n.Value) {
			return e.errorf("want a whole number in decimal digits, got %s", describe(n))
		}
		number, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 10, target.Type().Bits())
		if err != nil {
			return e.errorf("the number %s is too large", n.Value)
		}
		target.SetInt(number)
	case reflect.Float64:
		if tag != "!!int" && tag != "!!float" {
			return e.errorf("want a number, got %s", describe(n))
		}
		if err := n.Decode(target.Addr().Interface()); err != nil {
			return e.errorf("want a number, got %s", describe(n))
		}
	default:
		panic("config: no decoder for " + target.Type().String())
	}
	return nil
}

// decodeString takes the whole of a variable or flag as it stands. Elsewhere, what YAML reads as a number, a date or a truth
// value is refused, since something else may have been meant.
func decodeString(e entry, n *yaml.Node) (string, error) {
	if e.raw != "" && n == resolve(e.value) {
		return e.raw, nil
	}
	if n.Kind != yaml.ScalarNode {
		return "", e.errorf("want text, got %s", describe(n))
	}
	if n.ShortTag() != "!!str" {
		return "", e.errorf("want text, got %s; put it in quotes if it is meant", describe(n))
	}
	return n.Value, nil
}

// decodeStrings reads one text or a list of texts.
func decodeStrings(e entry, n *yaml.Node) ([]string, error) {
	if n.Kind != yaml.SequenceNode {
		if n.Kind == yaml.MappingNode && e.raw == "" {
			return nil, e.errorf("want text or a list of texts, got a map")
		}
		text, err := decodeString(e, n)
		return []string{text}, err
	}
	list := make([]string, 0, len(n.Content))
	for i, item := range n.Content {
		line := e
		line.where = item
		text, err := decodeString(line, resolve(item))
		if err != nil {
			return nil, fmt.Errorf("%w (item %d of the list)", err, i+1)
		}
		list = append(list, text)
	}
	return list, nil
}

// decodeEvalData reads one text, a list of texts, or a map from names to either.
func decodeEvalData(e entry, n *yaml.Node) (EvalData, []error) {
	if n.Kind != yaml.MappingNode {
		paths, err := decodeStrings(e, n)
		return EvalData{{Paths: paths}}, asList(err)
	}
	var sets EvalData
	var errs []error
	more := pairs(n, e.src, func(name string, keyNode, value *yaml.Node) {
		inner := entry{key: e.key + "." + name, where: keyNode, value: value, src: e.src}
		if isNull(resolve(value)) {
			errs = append(errs, inner.errorf("has no value"))
			return
		}
		paths, err := decodeStrings(inner, resolve(value))
		errs = append(errs, asList(err)...)
		sets = append(sets, EvalSet{Name: name, Paths: paths})
	})
	return sets, append(errs, more...)
}

// decodeMixture reads a list of names, or of maps.
func decodeMixture(e entry, n *yaml.Node) (Mixture, []error) {
	if n.Kind != yaml.SequenceNode {
		return nil, []error{e.errorf("want a list such as [reconstruction, span_corruption], got %s", describe(n))}
	}
	var mixture Mixture
	var errs []error
	for _, item := range n.Content {
		one := MixedObjective{Weight: 1, LossWeight: 1}
		line := e
		line.where = item
		if value := resolve(item); value.Kind == yaml.MappingNode {
			errs = append(errs, decodeFields(line, value, map[string]any{"objective": &one.Objective, "weight": &one.Weight, "loss_weight": &one.LossWeight})...)
		} else {
			name, err := decodeString(line, value)
			one.Objective, errs = name, append(errs, asList(err)...)
		}
		mixture = append(mixture, one)
	}
	return mixture, errs
}

func decodeKwargs(e entry, n *yaml.Node, into *LRSchedulerKwargs) []error {
	if n.Kind != yaml.MappingNode {
		return []error{e.errorf("want a map such as {num_cycles: 0.5}, got %s", describe(n))}
	}
	targets := map[string]any{
		"num_cycles": &into.NumCycles, "min_lr_ratio": &into.MinLRRatio, "num_decay_steps": &into.NumDecaySteps,
		"num_stable_steps": &into.NumStableSteps, "warmup_type": &into.WarmupType, "decay_type": &into.DecayType,
	}
	return decodeFields(e, n, targets)
}

// decodeFields reads a map into the targets, pointers by name.
func decodeFields(e entry, n *yaml.Node, targets map[string]any) []error {
	var errs []error
	more := pairs(n, e.src, func(name string, keyNode, value *yaml.Node) {
		inner := entry{key: e.key + "." + name, where: keyNode, value: value, src: e.src}
		target, known := targets[name]
		if !known {
			errs = append(errs, inner.errorf("ddprun knows %s here", strings.Join(slices.Sorted(maps.Keys(targets)), ", ")))
			return
		}
		if list, isList := target.(*Strings); isList {
			paths, err := decodeStrings(inner, resolve(value))
			*list, errs = paths, append(errs, asList(err)...)
			return
		}
		errs = append(errs, asList(decodeScalar(inner, resolve(value), reflect.ValueOf(target).Elem()))...)
	})
	return append(errs, more...)
}

// expandHome replaces a leading ~/ in paths: YAML and flags such as --set data=~/x reach us without the shell's help.
func expandHome(e entry, paths any) error {
	expand := func(path *string) error {
		rest, found := strings.CutPrefix(*path, "~/")
		if !found {
			return nil
		}
		home, err := os.UserHomeDir()
		if err != nil {
			return e.errorf("cannot expand ~/: %w", err)
		}
		*path = filepath.Join(home, rest)
		return nil
	}
	switch p := paths.(type) {
	case *string:
		return expand(p)
	case *Strings:
		for i := range *p {
			if err := expand(&(*p)[i]); err != nil {
				return err
			}
		}
	case *Data:
		for _, stream := range *p {
			for i := range stream.Paths {
				if err := expand(&stream.Paths[i]); err != nil {
					return err
				}
			}
		}
	case *EvalData:
		for _, set := range *p {
			for i := range set.Paths {
				if err := expand(&set.Paths[i]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
