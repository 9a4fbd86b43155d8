// Package checkpoint keeps a run's progress on disk such that it survives anything: a kill at any moment, a full disk, a
// torn or flipped bit.
//
//	output_dir/
//	  checkpoint-<step>/         a complete checkpoint, or what a fault has made of one
//	    config.json, model.safetensors, tokenizer files   as from_pretrained reads them
//	    trainer_state.json       as transformers' TrainerState writes it
//	    optimizer.safetensors    AdamW's moments
//	    ddprun_state.json        State: position, seeds, configuration, checksums of all the other files
//	  config.json, model.safetensors, ...                 the last model (SaveModel)
//	  .ddprun/                   what is being written or deleted, by generation; model.json: what SaveModel wrote;
//	                             generation-<n>, start-<n>-<step>: who may write, and where each generation began (internal/generation)
//
// Save writes all files below .ddprun, syncs them and renames the directory into place, so under the name
// checkpoint-<step> there is a complete checkpoint or none. Nobody takes what lies in .ddprun for one; Clean removes it at
// the next start. Load and Latest believe nothing that does not match its checksums. Prune and Clear rename before they
// delete, and touch only what ddprun wrote. Decide says how a run may begin in an output directory that is not empty.
//
// A directory is written by rank 0 of the newest generation. One of an earlier generation may still live: stopped, or cut off. So
// whatever writes looks for a later claim first and is refused with ErrSuperseded, and what was allowed and then done too late does no harm (fence.go):
// a checkpoint counts only if no later generation began before its step, and Latest, Newest and Decide see no other. Begin says where a
// generation begins; Settle is what a run calls first.
//
// The functions that write block for as long as the disk takes; Writer moves that into the background.
//
// The tensors come from internal/train, which copies them out of the model; internal/hf writes and reads the files.
package checkpoint
