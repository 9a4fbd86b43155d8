// Package generation is the arbiter of a run: files below output_dir/.ddprun say which group of workers may write there.
//
//	generation-<n>            the record of generation n, claimed by making it exclusively; it never changes
//	generation-<n>.claimed    the same where the file system has no links: whoever makes it may write the record
//	start-<n>-<step>          generation n has begun, from the checkpoint after <step> steps; holds whose it was
//
// Who has the highest number is right. A number is used once. Nobody asks anybody else, so any one node that survives can
// go on, and so can a start on other hosts after all have died.
//
// A generation's claim and its start are two files since they are two moments. Claim fences: from then on no writer of an older
// generation commits, and none deletes, once it has looked. Only after that, with the workers of the older generations ended,
// does the new one look for the newest checkpoint and say by Begin where it starts. What an older generation deleted before, it
// deleted before that look; so a generation never starts from a checkpoint that somebody removes behind its back, which a
// starting step inside the claimed record could not promise.
//
// A checkpoint counts (History.Counts) if no later generation has begun before its step. So one that a stopped process brings
// into place too late, however late, changes nothing.
//
// Network file systems: link(2), O_EXCL and rename are decided by the server, so claims are exclusive whatever clients cache. A look
// must not be answered out of a cache; Linux's NFS client asks the server anew whenever a directory is opened (close-to-open consistency;
// not with the mount option nocto), and every look here opens it. Before it, a claim, and a commit in internal/checkpoint, have
// changed the directory from the same client.
//
// Before this package: launch claims. After it: internal/checkpoint asks what counts and who may write.
package generation
