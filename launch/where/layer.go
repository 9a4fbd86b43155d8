package where

import (
	"errors"
	"strconv"
	"strings"
)

// said is a word and what it was given by; the zero said is silence.
type said struct{ text, by string }

// layer is what one source says.
type layer struct {
	source                                               Source
	nnodes, nodeRank, port, runID, keyFile, nproc, tries said
	join                                                 []string
	joinBy                                               string
}

// first returns what the first layer says that knows, and which that is.
func first(layers []layer, get func(layer) said) (said, Source) {
	for _, l := range layers {
		if s := get(l); s.text != "" {
			return s, l.source
		}
	}
	return said{}, Alone
}

// variables is an environment.
type variables map[string]string

// environment makes a map of env; of a name that comes twice the last counts, as for os/exec.
func environment(env []string) variables {
	vars := make(variables, len(env))
	for _, variable := range env {
		if name, value, found := strings.Cut(variable, "="); found {
			vars[name] = value
		}
	}
	return vars
}

// said returns the value of name.
func (v variables) said(name string) said { return said{v[name], name} }

// tell says whether any of names has a value.
func (v variables) tell(names ...string) bool {
	for _, name := range names {
		if v[name] != "" {
			return true
		}
	}
	return false
}

func flagLayer(f Flags) layer {
	return layer{source: FromFlags, nnodes: said{f.NNodes, "--nnodes"}, nodeRank: said{f.NodeRank, "--node-rank"}, port: said{f.Port, "--port"},
		runID: said{f.RunID, "--run-id"}, keyFile: said{f.KeyFile, "--key-file"}, join: f.Join, joinBy: "--join"}
}

// ddprunLayer is what whoever starts agents may set in place of flags; the manifests of ddprun k8s do.
func ddprunLayer(vars variables) layer {
	l := layer{source: FromDDPRun, nnodes: vars.said("DDPRUN_NNODES"), nodeRank: vars.said("DDPRUN_NODE_RANK"), port: vars.said("DDPRUN_PORT"),
		runID: vars.said("DDPRUN_RUN_ID"), keyFile: vars.said("DDPRUN_KEY_FILE"), nproc: vars.said("DDPRUN_NPROC"),
		join: words(vars["DDPRUN_JOIN"]), joinBy: "DDPRUN_JOIN"}
	if vars.tell("JOB_COMPLETION_INDEX") {
		l.source = FromKubernetes
	}
	return l
}

// petLayer is what torchrun reads for its flags, as Kubeflow sets it: in elastic jobs the rendezvous's endpoint, else the master's
// address. MASTER_ADDR alone says nothing: scripts export it for other programs.
func petLayer(vars variables) layer {
	l := layer{source: FromPET, nnodes: vars.said("PET_NNODES"), nodeRank: vars.said("PET_NODE_RANK"), runID: vars.said("PET_RDZV_ID"),
		nproc: vars.said("PET_NPROC_PER_NODE"), tries: vars.said("PET_MAX_RESTARTS")}
	switch {
	case vars.tell("PET_RDZV_ENDPOINT"):
		l.joinBy = "PET_RDZV_ENDPOINT"
		if _, port, err := SplitAddress(vars[l.joinBy], 0); err == nil && port != 0 {
			l.port = said{strconv.Itoa(port), l.joinBy}
		}
	case vars.tell("PET_MASTER_ADDR"):
		l.joinBy, l.port = "PET_MASTER_ADDR", vars.said("PET_MASTER_PORT")
	case vars.tell("PET_NNODES") && vars.tell("MASTER_ADDR"):
		l.joinBy, l.port = "MASTER_ADDR", vars.said("MASTER_PORT")
	}
	l.join = words(vars[l.joinBy])
	return l
}

// kubernetesLayer is an Indexed Job's, whose pods know their index and no more: the number of nodes and their names come from
// variables of the manifest.
func kubernetesLayer(vars variables) layer {
	return layer{source: FromKubernetes, nodeRank: vars.said("JOB_COMPLETION_INDEX")}
}

// lonely refuses to be alone in an Indexed Job that does not say how many pods there are: each would train for itself.
func lonely(p Place, vars variables) error {
	if p.Source == Alone && vars.tell("JOB_COMPLETION_INDEX") {
		return errors.New("this is a pod of an Indexed Job (JOB_COMPLETION_INDEX is set), but nothing says how many pods train together: " +
			"set DDPRUN_NNODES and DDPRUN_JOIN, as the manifests of ddprun k8s do, or give --nnodes 1 if each pod trains for itself")
	}
	return nil
}

// words reads words separated by commas.
func words(text string) []string {
	var found []string
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			found = append(found, word)
		}
	}
	return found
}
