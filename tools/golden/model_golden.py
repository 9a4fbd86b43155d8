"""What transformers computes for an encoder with a head for tokens, for pairs, or both, as a safetensors file: the reference that internal/model is tested against.

A golden file holds, for one micro-batch (legend: N tokens, S samples, M labelled tokens, V vocabulary, H hidden):

  ids, token_types, positions [N] int64   all samples back to back, special tokens included, no padding
  offsets [S+1] int32                     sample s is ids[offsets[s]:offsets[s+1]]
  labelled, labels [M] int64              indices into the N tokens, and the token each should be
  pair_samples, pair_labels [P] int64     where the model has a head for pairs: indices of samples, and their classes
  logits [M, V] f32                       at the labelled positions
  pair_logits [P, 2] f32                  of the pairs
  last_hidden_state [N, H] f32            the encoder's output at every position
  loss_sum, loss_mean [1] f32             cross entropy over the M labelled tokens
  smoothed_loss [1] f32                   the mean by Trainer's LabelSmoother with 0.1, in place of each cross entropy
  pair_loss_sum [1] f32                   cross entropy over the P pairs; loss_mean is then the sum of both means
  grad.<parameter> f32                    of loss_mean, one for each parameter; a tied one once, under its first name

and, for ten optimizer steps that start from the same weights (see train_steps):

  batch.<k>.<field>                       the micro-batch of step k, the same fields
  losses, lr, grad_norm [10] f32          mean loss before update k, learning rate of update k, gradient norm before clipping
  final.<parameter> f32                   (some) after the ten: shows weight decay, which ten losses hide. An attention
                                          key's bias has no gradient but noise, which AdamW blows up: it can't be compared

transformers computes all of it on the padded batch with an attention mask, in float32, in eval mode (so without dropout) and
with attn_implementation="eager"; that is the form of the arithmetic which has no kernel of its own.
"""

import json
import os

import torch
from safetensors.torch import load_file, save_file

BATCH_FIELDS = ("ids", "token_types", "positions", "offsets", "labelled", "labels", "pair_samples", "pair_labels")
STEPS = 10
WARMUP_STEPS = 2
LEARNING_RATE = 1e-3
MAX_GRAD_NORM = 1.0
WEIGHT_DECAY = 0.01


def deterministic():
    """One thread and PyTorch's deterministic kernels: the same file on every run."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    import transformers
    transformers.utils.logging.disable_progress_bar()


def make_batch(samples, types, mask_id, special, generator, share=0.15, first_position=0):
    """Joins samples (lists of ids) and masks a share of the tokens that are not special, at least one in each sample."""
    ids, labelled, labels, offsets, positions = [], [], [], [0], []
    for sample in samples:
        maskable = [i for i, t in enumerate(sample) if t not in special]
        drawn = torch.rand(len(maskable), generator=generator) < share
        chosen = [i for i, d in zip(maskable, drawn) if d] or maskable[:1]
        tokens = list(sample)
        for n, i in enumerate(chosen):
            labelled.append(offsets[-1] + i)
            labels.append(tokens[i])
            if n % 4 != 3:  # every fourth keeps its token: a label does not imply [MASK]
                tokens[i] = mask_id
        ids += tokens
        positions += range(first_position, first_position + len(tokens))
        offsets.append(len(ids))
    flat_types = [t for sample in types for t in sample]
    as64 = lambda values: torch.tensor(values, dtype=torch.int64)
    return {
        "pair_samples": as64([]), "pair_labels": as64([]), "ids": as64(ids), "token_types": as64(flat_types), "positions": as64(positions),
        "offsets": torch.tensor(offsets, dtype=torch.int32), "labelled": as64(labelled), "labels": as64(labels),
    }


def with_pairs(batch, generator, tokens=True):
    """Gives every sample but the second a class; without tokens, takes the labels of tokens away."""
    samples = [s for s in range(len(batch["offsets"]) - 1) if s != 1]
    batch["pair_samples"] = torch.tensor(samples)
    batch["pair_labels"] = torch.randint(0, 2, (len(samples),), generator=generator)
    if not tokens:
        batch["labelled"] = batch["labels"] = torch.tensor([], dtype=torch.int64)
    return batch


def forward(model, batch):
    """Runs the padded batch. Returns the logits at the labelled tokens [M, V], those of the pairs [P, 2], each None where the model has no such head,
    and the hidden states of all tokens [N, H]."""
    offsets = batch["offsets"].tolist()
    lengths = [b - a for a, b in zip(offsets, offsets[1:])]
    shape = (len(lengths), max(lengths))
    padded = {name: torch.zeros(shape, dtype=torch.int64) for name in ("ids", "token_types", "positions", "mask")}
    for s, n in enumerate(lengths):
        for name in ("ids", "token_types", "positions"):
            padded[name][s, :n] = batch[name][offsets[s]:offsets[s + 1]]
        padded["mask"][s, :n] = 1
    kind = type(model).__name__
    types = {} if kind.startswith("DistilBert") else {"token_type_ids": padded["token_types"]}
    out = model(
        input_ids=padded["ids"], position_ids=padded["positions"], attention_mask=padded["mask"], output_hidden_states=True, **types)
    real = padded["mask"].bool()
    tokens = pairs = None
    if kind.endswith("ForPreTraining"):
        tokens, pairs = out.prediction_logits, out.seq_relationship_logits
    elif kind.endswith("ForNextSentencePrediction"):
        pairs = out.logits
    else:
        tokens = out.logits
    return (None if tokens is None else tokens[real][batch["labelled"]],
            None if pairs is None else pairs[batch["pair_samples"]], out.hidden_states[-1][real])


def losses_of(batch, tokens, pairs):
    """The sums for tokens and pairs, where there are such, and the sum of their means."""
    sums, mean = {}, 0
    for name, logits, labels in (("loss_sum", tokens, batch["labels"]), ("pair_loss_sum", pairs, batch["pair_labels"])):
        if logits is not None:
            sums[name] = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            mean = mean + sums[name] / len(labels)
    return sums, mean


def mean_loss(model, batch):
    tokens, pairs, _ = forward(model, batch)
    return losses_of(batch, tokens, pairs)[1]


def fields(batch, prefix=""):
    """The micro-batch's own fields, without those that it doesn't use."""
    return {prefix + name: batch[name] for name in BATCH_FIELDS if len(batch[name])}


def reference(model, batch):
    """The first half of the golden: logits, hidden states, loss and the gradients of its mean."""
    model.zero_grad()
    tokens, pairs, hidden = forward(model, batch)
    sums, loss_mean = losses_of(batch, tokens, pairs)
    loss_mean.backward()
    out = fields(batch)
    out.update({name: x for name, x in (("logits", tokens), ("pair_logits", pairs)) if x is not None})
    out.update({name: x.reshape(1) for name, x in sums.items()}, last_hidden_state=hidden, loss_mean=loss_mean.reshape(1))
    from transformers.trainer_pt_utils import LabelSmoother
    smooth = LabelSmoother(epsilon=0.1)
    out["smoothed_loss"] = sum(smooth({"logits": x[None]}, labels[None]) for x, labels in (
        (tokens, batch["labels"]), (pairs, batch["pair_labels"])) if x is not None).reshape(1)
    for name, parameter in model.named_parameters():
        out["grad." + name] = parameter.grad.clone()
    return out


def train_steps(model, batches):
    """The second half: AdamW with Trainer's grouping and linear schedule, as Trainer orders the calls."""
    from transformers import Trainer, get_scheduler
    decay = set(Trainer.get_decay_parameter_names(None, model))
    named = list(model.named_parameters())
    groups = [{"params": [p for n, p in named if n in decay], "weight_decay": WEIGHT_DECAY},
              {"params": [p for n, p in named if n not in decay], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=WARMUP_STEPS, num_training_steps=len(batches))
    losses, rates, norms, out = [], [], [], {}
    for k, batch in enumerate(batches):
        optimizer.zero_grad()
        loss = mean_loss(model, batch)
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM).item())
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        out.update(fields(batch, f"batch.{k}."))
    out.update(losses=torch.tensor(losses), lr=torch.tensor(rates), grad_norm=torch.tensor(norms))
    return out


def load_model(directory, architecture="BertForMaskedLM"):
    """The model as a user of transformers gets it, in float32 whatever the stored type, and the keys that did not match."""
    import transformers
    model, info = getattr(transformers, architecture).from_pretrained(
        directory, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
    return model.eval(), info


def save(path, tensors):
    """Writes the golden. Shared storage is copied: safetensors refuses it."""
    save_file({name: t.detach().clone().contiguous() for name, t in tensors.items()}, path)


def load(path):
    return load_file(path)


def write_json(path, value):
    with open(path, "w", encoding="ascii") as f:
        json.dump(value, f, indent=1, sort_keys=True)
        f.write("\n")
