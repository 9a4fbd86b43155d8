package model

import "fmt"

// family is what sets a member of BERT's family apart: names in config.json and of parameters, defaults of its configuration class, and small
// differences of the computation.
type family struct {
	class  string // of transformers, without the head
	prefix string // of the encoder's parameters
	pairs  bool   // it has a head for pairs of sentences

	keys     configKeys
	defaults sizes
	layers   layerNames
	head     headNames

	geluHead           bool // the head's activation is gelu, whatever the configuration says
	typeless           bool // there are no token types
	undroppedAttention bool // nothing is dropped from attention's output before it is added
	positionsAfterPad  bool // positions begin at pad_token_id + 1
}

// configKeys are the names of what config.json may call otherwise. Where a name is empty, the family knows no such thing: the embeddings are as
// wide as the layers, and LayerNorm's epsilon is 1e-12.
type configKeys struct {
	hidden, embedding, layers, heads, intermediate, activation, hiddenDropout, attentionDropout, layerNormEps string
}

// sizes are those of a configuration that does not say them.
type sizes struct {
	vocab, hidden, embedding, layers, heads, intermediate, paddingID int
}

// layerNames are the parameters of a layer, which lie under stack and the layer's number.
type layerNames struct {
	stack, query, key, value, attended, attentionNorm, up, down, norm string
}

// headNames are the parameters of the head for tokens: the projection before the vocabulary's, its LayerNorm, the vocabulary's, and its bias.
type headNames struct {
	transform, transformNorm, decoder, bias string
}

var (
	bertKeys = configKeys{hidden: "hidden_size", layers: "num_hidden_layers", heads: "num_attention_heads", intermediate: "intermediate_size",
		activation: "hidden_act", hiddenDropout: "hidden_dropout_prob", attentionDropout: "attention_probs_dropout_prob", layerNormEps: "layer_norm_eps"}
	electraKeys = configKeys{hidden: "hidden_size", embedding: "embedding_size", layers: "num_hidden_layers", heads: "num_attention_heads",
		intermediate: "intermediate_size", activation: "hidden_act", hiddenDropout: "hidden_dropout_prob",
		attentionDropout: "attention_probs_dropout_prob", layerNormEps: "layer_norm_eps"}
	distilKeys = configKeys{hidden: "dim", layers: "n_layers", heads: "n_heads", intermediate: "hidden_dim", activation: "activation",
		hiddenDropout: "dropout", attentionDropout: "attention_dropout"}

	bertLayers = layerNames{stack: "encoder.layer", query: "attention.self.query", key: "attention.self.key", value: "attention.self.value",
		attended: "attention.output.dense", attentionNorm: "attention.output.LayerNorm", up: "intermediate.dense", down: "output.dense",
		norm: "output.LayerNorm"}
	distilLayers = layerNames{stack: "transformer.layer", query: "attention.q_lin", key: "attention.k_lin", value: "attention.v_lin",
		attended: "attention.out_lin", attentionNorm: "sa_layer_norm", up: "ffn.lin1", down: "ffn.lin2", norm: "output_layer_norm"}
)

// families are the supported values of model_type.
var families = map[string]family{
	"bert": {class: "Bert", prefix: "bert", pairs: true, keys: bertKeys, layers: bertLayers,
		defaults: sizes{vocab: 30522, hidden: 768, layers: 12, heads: 12, intermediate: 3072},
		head: headNames{transform: "cls.predictions.transform.dense", transformNorm: "cls.predictions.transform.LayerNorm",
			decoder: "cls.predictions.decoder", bias: "cls.predictions.bias"}},
	"roberta":     robertaFamily("Roberta", 50265),
	"xlm-roberta": robertaFamily("XLMRoberta", 30522),
	"camembert":   robertaFamily("Camembert", 30522),
	// Sanh et al., 2019: BERT without token types and with every other layer.
	"distilbert": {class: "DistilBert", prefix: "distilbert", keys: distilKeys, layers: distilLayers, typeless: true, undroppedAttention: true,
		defaults: sizes{vocab: 30522, hidden: 768, layers: 6, heads: 12, intermediate: 3072},
		head:     headNames{transform: "vocab_transform", transformNorm: "vocab_layer_norm", decoder: "vocab_projector", bias: "vocab_projector.bias"}},
	// Clark et al., 2020: the generator, which is a BERT whose embeddings have a width of their own.
	"electra": {class: "Electra", prefix: "electra", keys: electraKeys, layers: bertLayers, geluHead: true,
		defaults: sizes{vocab: 30522, hidden: 256, embedding: 128, layers: 12, heads: 4, intermediate: 1024},
		head: headNames{transform: "generator_predictions.dense", transformNorm: "generator_predictions.LayerNorm",
			decoder: "generator_lm_head", bias: "generator_lm_head.bias"}},
}

// robertaFamily is RoBERTa (Liu et al., 2019) and what was made in its image.
func robertaFamily(class string, vocab int) family {
	return family{class: class, prefix: "roberta", keys: bertKeys, layers: bertLayers, geluHead: true, positionsAfterPad: true,
		defaults: sizes{vocab: vocab, hidden: 768, layers: 12, heads: 12, intermediate: 3072, paddingID: 1},
		head:     headNames{transform: "lm_head.dense", transformNorm: "lm_head.layer_norm", decoder: "lm_head.decoder", bias: "lm_head.bias"}}
}

// pairClassifier is the projection of a pair's pooled first token to its two classes.
const pairClassifier = "cls.seq_relationship"

func (f family) embeddings() string { return f.prefix + ".embeddings." }
func (f family) words() string      { return f.embeddings() + "word_embeddings.weight" }
func (f family) widening() string   { return f.prefix + ".embeddings_project" } // of embeddings to the layers' width, where they differ
func (f family) layer(i int) string { return fmt.Sprintf("%s.%s.%d.", f.prefix, f.layers.stack, i) }
func (f family) pooler() string     { return f.prefix + ".pooler.dense" }

func (f family) headActivation(hidden string) string {
	if f.geluHead {
		return "gelu"
	}
	return hidden
}
