// Package remote reads texts that lie behind URLs: objects of a bucket (s3://, gs://, az://) and single files of a web server
// (https://, http://). A Store lists them, tells their size and version, and opens them as streams that go on by a range request
// where a connection has broken.
//
// What is read is pinned to the version that Stat saw: an object that has changed is an error, never a mixture of two versions.
// Credentials come from the environment, as each service's own tools take them; a URL that holds some is refused, since names of
// sources are logged and kept in indices, and no error shows what a redirection or a library has put into a URL.
//
// It comes before package shard, which knows it as an interface alone.
package remote
