package model

import "fmt"

// family is what sets a member of BERT's family apart: names of parameters, defaults of its configuration class, and where its positions begin.
type family struct {
	class  string // of transformers, without the head
	prefix string // of the encoder's parameters
	pairs  bool   // it has a head for pairs of sentences

	// The head for tokens: the projection before the vocabulary's, its LayerNorm, the vocabulary's, and its bias.
	transform, transformNorm, decoder, bias string
	geluHead                                bool // the head's activation is gelu, whatever hidden_act says

	vocab, paddingID  int  // defaults
	positionsAfterPad bool // positions begin at pad_token_id + 1
}

// families are the supported values of model_type.
var families = map[string]family{
	"bert": {class: "Bert", prefix: "bert", pairs: true, vocab: 30522,
		transform: "cls.predictions.transform.dense", transformNorm: "cls.predictions.transform.LayerNorm",
		decoder: "cls.predictions.decoder", bias: "cls.predictions.bias"},
	"roberta":     robertaFamily("Roberta", 50265),
	"xlm-roberta": robertaFamily("XLMRoberta", 30522),
	"camembert":   robertaFamily("Camembert", 30522),
}

// robertaFamily is RoBERTa (Liu et al., 2019) and what was made in its image.
func robertaFamily(class string, vocab int) family {
	return family{class: class, prefix: "roberta", vocab: vocab, paddingID: 1, positionsAfterPad: true, geluHead: true,
		transform: "lm_head.dense", transformNorm: "lm_head.layer_norm", decoder: "lm_head.decoder", bias: "lm_head.bias"}
}

// pairClassifier is the projection of a pair's pooled first token to its two classes.
const pairClassifier = "cls.seq_relationship"

func (f family) embeddings() string { return f.prefix + ".embeddings." }
func (f family) words() string      { return f.embeddings() + "word_embeddings.weight" }
func (f family) layer(i int) string { return fmt.Sprintf("%s.encoder.layer.%d.", f.prefix, i) }
func (f family) pooler() string     { return f.prefix + ".pooler.dense" }

func (f family) headActivation(hidden string) string {
	if f.geluHead {
		return "gelu"
	}
	return hidden
}
